-- pre
-- Cities by code, the last record of each pharmacy, and its last stock counts.

CREATE TABLE city (
    city text PRIMARY KEY,
    city_id uuid NOT NULL UNIQUE,
    name text NOT NULL,
    timezone text NOT NULL,
    tiers text[] NOT NULL
);

CREATE TABLE pharmacy (
    pharmacy_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    city text NOT NULL,
    body jsonb NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX pharmacy_city ON pharmacy (city);

CREATE TABLE stock (
    pharmacy_id uuid NOT NULL,
    product_code text NOT NULL,
    count int NOT NULL CHECK (count >= 0),
    counted_at timestamptz NOT NULL,
    PRIMARY KEY (pharmacy_id, product_code)
) WITH (fillfactor = 80);
