-- pre
-- Orders whose state has a dispute: without it, what waits for a person is looked for in every order ever.
CREATE TABLE dispute_open (
    order_id uuid PRIMARY KEY
);
INSERT INTO dispute_open SELECT order_id FROM state WHERE state ->> 'dispute' IS NOT NULL;
