-- pre
-- Orders still in review or claim, as a tick reckons with them. A row ends with the order's release
-- or its end; the key of the order's state is the tombstone for what comes late.

CREATE TABLE foreseen (
    order_id uuid PRIMARY KEY,
    city text NOT NULL,
    issued_at timestamptz NOT NULL,
    body jsonb NOT NULL
);
CREATE INDEX foreseen_city ON foreseen (city, issued_at);
