-- pre
-- Which order a hospital's own number stands for, and which order used a prescription.

CREATE TABLE submission (
    tenant_id uuid NOT NULL,
    order_number text NOT NULL,
    body_hash text NOT NULL,
    order_id uuid NOT NULL UNIQUE,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, order_number)
);

CREATE TABLE used_prescription (
    tenant_id uuid NOT NULL,
    prescription_id uuid NOT NULL,
    order_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, prescription_id)
);
