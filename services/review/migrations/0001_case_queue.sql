-- pre
-- What lies on the pharmacists' desks: one row an order that a person must still look at, or that
-- waits for the prescriber.

CREATE TABLE case_queue (
    order_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    city text NOT NULL,
    tier text NOT NULL,
    submitted_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    waiting int NOT NULL CHECK (waiting >= 0),
    returned int NOT NULL CHECK (returned >= 0),
    codes text[] NOT NULL,
    pharmacist text,
    lease_until timestamptz,
    CHECK (waiting + returned > 0)
);
CREATE INDEX case_queue_waiting ON case_queue (since) WHERE waiting > 0;
