-- pre
-- What a person put in a dead letter's place; the letter itself stays as it came.

CREATE TABLE correction (
    parked_id uuid NOT NULL REFERENCES parked,
    number int NOT NULL CHECK (number >= 1),
    record_key bytea,
    headers jsonb NOT NULL,
    body bytea,
    actor text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (parked_id, number)
);

-- The service's role is named after its schema.
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON correction FROM %I', current_schema());
END
$$;
