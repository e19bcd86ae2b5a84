-- pre
-- What the payer settled, as it is reconciled each day, and the invoices. Only ever added to: an
-- undone settlement has a row of its own, a taken-back sale an invoice with negative sums.

CREATE TABLE slip (
    settlement_id text PRIMARY KEY,
    order_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    attempt int NOT NULL,
    payer_area text NOT NULL,
    insutype text NOT NULL,
    clr_type text NOT NULL,
    clr_optins text NOT NULL,
    visit_id text NOT NULL,
    msgid text NOT NULL,
    settled_at timestamptz NOT NULL,
    total_fen bigint NOT NULL,
    fund_fen bigint NOT NULL,
    account_fen bigint NOT NULL,
    cash_fen bigint NOT NULL,
    CHECK (fund_fen + account_fen + cash_fen = total_fen)
);
CREATE INDEX slip_day ON slip (settled_at);
CREATE INDEX slip_order ON slip (order_id);

CREATE TABLE slip_undone (
    settlement_id text PRIMARY KEY REFERENCES slip (settlement_id),
    at timestamptz NOT NULL
);

CREATE TABLE invoice (
    number text PRIMARY KEY,
    order_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    attempt int NOT NULL,
    red boolean NOT NULL,
    total_fen bigint NOT NULL,
    fund_fen bigint NOT NULL,
    account_fen bigint NOT NULL,
    cash_fen bigint NOT NULL,
    issued_at timestamptz NOT NULL,
    UNIQUE (order_id, attempt, red),
    CHECK (fund_fen + account_fen + cash_fen = total_fen AND (total_fen <= 0) >= red)
);

REVOKE UPDATE, DELETE ON slip, slip_undone, invoice FROM claim;
