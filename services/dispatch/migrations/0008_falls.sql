-- pre
-- Each tier that an order left or ended on, with the gate that emptied it and what each gate removed.

CREATE TABLE fall (
    order_id uuid NOT NULL,
    tier text NOT NULL,
    below text,
    at timestamptz NOT NULL,
    reason text NOT NULL,
    removed jsonb NOT NULL,
    PRIMARY KEY (order_id, tier)
);
