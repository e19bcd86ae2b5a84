-- pre
-- The board counts what is open and what has closed of late, and reads no more than that.
CREATE INDEX order_view_closed ON order_view (closed_at);
