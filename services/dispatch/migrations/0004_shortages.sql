-- pre
-- Who waits for a drug that nobody had, in which place, and the packs kept for who was asked.

CREATE SEQUENCE shortage_position;

-- A place is handed on: an order that keeps one and finds nothing again stands where it stood.
CREATE TABLE shortage (
    order_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    city text NOT NULL,
    position bigint NOT NULL,
    insured boolean NOT NULL,
    cold boolean NOT NULL,
    controlled text[] NOT NULL,
    apart boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'asked', 'kept', 'ordered', 'left')),
    why text CHECK ((state = 'left') = (why IS NOT NULL)),
    registered_at timestamptz NOT NULL,
    asked_at timestamptz,
    ordered_by uuid UNIQUE CHECK ((state = 'ordered') = (ordered_by IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX shortage_waiting ON shortage (city, position) WHERE state = 'waiting';

CREATE TABLE shortage_line (
    order_id uuid NOT NULL REFERENCES shortage,
    line int NOT NULL,
    drug text NOT NULL,
    products text[] NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, line)
);

-- Packs that are kept from the question until the order; `stock.held` is their sum.
CREATE TABLE shortage_hold (
    order_id uuid NOT NULL REFERENCES shortage,
    pharmacy_id uuid NOT NULL,
    product_code text NOT NULL,
    qty int NOT NULL CHECK (qty > 0),
    PRIMARY KEY (order_id, product_code)
);
CREATE INDEX shortage_hold_stock ON shortage_hold (pharmacy_id, product_code);

-- free = counted - sealed_since - reserved - held.
ALTER TABLE stock ADD COLUMN held int NOT NULL DEFAULT 0 CHECK (held >= 0);
