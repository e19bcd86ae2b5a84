-- pre
-- The payer's own books. An answered call is kept by its key; a reversed key stays refused.

CREATE TABLE call (
    key text PRIMARY KEY,
    kind text NOT NULL,
    request_hash text NOT NULL,
    reply jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE presettlement (
    id text PRIMARY KEY,
    order_ref text NOT NULL,
    lines jsonb NOT NULL,
    total_fen bigint NOT NULL,
    fund_fen bigint NOT NULL,
    account_fen bigint NOT NULL,
    cash_fen bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'settled', 'void')),
    CHECK (fund_fen + account_fen + cash_fen = total_fen)
);

CREATE TABLE settlement (
    id text PRIMARY KEY,
    key text NOT NULL UNIQUE,
    presettlement_id text NOT NULL REFERENCES presettlement (id),
    order_ref text NOT NULL,
    order_number text NOT NULL,
    attempt int NOT NULL,
    pharmacy_id text NOT NULL,
    total_fen bigint NOT NULL,
    fund_fen bigint NOT NULL,
    account_fen bigint NOT NULL,
    cash_fen bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('settled', 'undone'))
);
CREATE INDEX settlement_order ON settlement (order_ref);

-- A code is sold once, until its settlement is undone.
CREATE TABLE sold_code (
    code text PRIMARY KEY,
    settlement_id text NOT NULL REFERENCES settlement (id)
);
CREATE INDEX sold_code_settlement ON sold_code (settlement_id);
