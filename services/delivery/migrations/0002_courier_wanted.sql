-- pre
-- Parcels that a pharmacist has confirmed and no courier has, by the moment they are likely packed.
CREATE TABLE courier_wanted (
    order_id uuid PRIMARY KEY,
    city text NOT NULL,
    ready_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX courier_wanted_city ON courier_wanted (city, ready_at);
