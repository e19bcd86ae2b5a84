-- pre
-- The board counts what is open and what has closed of late, and reads no more than that.
CREATE INDEX order_view_closed ON order_view (closed_at);

-- One line of a list.
CREATE VIEW order_line AS
SELECT order_id, tenant_id, order_number, city, tier, promised_tier, place, outcome, late, attempt,
       parked, review_delayed, submitted_at, authorised_at, due_at, delivered_at, closed_at, updated_at,
       coalesce(promised_at, due_at) AS promised_at, coalesce(runs_from, authorised_at) AS runs_from
FROM order_view;
