-- pre
-- What a person holds of each ingredient, by all hospitals together. The person is a keyed hash of
-- the hash that prescription made of the certificate number: nothing here leads back to anybody.

-- A row to lock, no more: it may go whenever nobody holds it.
CREATE TABLE person (
    person text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
CREATE INDEX person_seen ON person (seen_at);

-- One row a line that passed or that a pharmacist is looking at; `until` is when it is used up.
CREATE TABLE supply (
    order_id uuid NOT NULL,
    prescription_id uuid NOT NULL,
    line int NOT NULL,
    person text NOT NULL,
    tenant_id uuid NOT NULL,
    ingredients text[] NOT NULL,
    issued_at timestamptz NOT NULL,
    days int NOT NULL CHECK (days > 0),
    until timestamptz NOT NULL,
    PRIMARY KEY (order_id, prescription_id, line)
);
CREATE INDEX supply_person ON supply (person, until);
CREATE INDEX supply_until ON supply (until);
