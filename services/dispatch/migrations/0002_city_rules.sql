-- pre
-- What a city's pack says, until when counted packs may be dispensed, and how long orders took.

ALTER TABLE city ADD COLUMN rules jsonb;
ALTER TABLE stock ADD COLUMN expires_at timestamptz;

-- The way of each assigned order from authorisation to its end, as dispatch heard of it. Without
-- seconds where the promise had passed and nothing was delivered.
CREATE TABLE trip (
    order_id uuid PRIMARY KEY,
    city text NOT NULL,
    tier text NOT NULL,
    pharmacy_id uuid NOT NULL,
    authorised_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    metres int NOT NULL,
    lines int NOT NULL,
    cold boolean NOT NULL,
    ended_at timestamptz,
    seconds real
) WITH (fillfactor = 80);
CREATE INDEX trip_ended ON trip (tier, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX trip_open ON trip (city, tier) WHERE ended_at IS NULL;
