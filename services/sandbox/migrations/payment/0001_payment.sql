-- pre
-- The payment provider's own books.

CREATE TABLE call (
    key text PRIMARY KEY,
    kind text NOT NULL,
    request_hash text NOT NULL,
    reply jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE hold (
    key text PRIMARY KEY,
    order_ref text NOT NULL,
    order_number text NOT NULL,
    attempt int NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    state text NOT NULL CHECK (state IN ('held', 'captured', 'released', 'refunded'))
);
CREATE INDEX hold_order ON hold (order_ref);
