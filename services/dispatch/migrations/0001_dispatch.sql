-- pre
-- Dispatch's copy of the network, its ledger of stock and slots, and the lease of each city.

CREATE TABLE city (
    city text PRIMARY KEY,
    city_id uuid NOT NULL,
    name text NOT NULL,
    timezone text NOT NULL,
    tiers text[] NOT NULL
);

-- Rises with each change of a pharmacy in the city; its row lock puts the changes in order,
-- so that an index that has read up to a version has missed nothing.
CREATE TABLE city_version (
    city text PRIMARY KEY,
    version bigint NOT NULL
);

CREATE TABLE pharmacy (
    pharmacy_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    city text NOT NULL,
    body jsonb NOT NULL,
    changed bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX pharmacy_changed ON pharmacy (city, changed);

-- free = counted - sealed_since - reserved. A count is believed even below what is reserved.
CREATE TABLE stock (
    pharmacy_id uuid NOT NULL,
    product_code text NOT NULL,
    counted int NOT NULL CHECK (counted >= 0),
    counted_at timestamptz NOT NULL,
    reserved int NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sealed_since int NOT NULL DEFAULT 0 CHECK (sealed_since >= 0),
    PRIMARY KEY (pharmacy_id, product_code)
) WITH (fillfactor = 70);

CREATE TABLE offer (
    offer_id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    number int NOT NULL CHECK (number >= 1),
    attempt int CHECK (attempt >= 1),
    city text NOT NULL,
    pharmacy_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    slot timestamptz NOT NULL,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > made_at),
    state text NOT NULL CHECK (
        state IN ('open', 'accepted', 'declined', 'expired', 'withdrawn', 'released')
    ),
    CHECK ((state IN ('accepted', 'released')) = (attempt IS NOT NULL)),
    UNIQUE (order_id, number)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX offer_one_accepted ON offer (order_id, attempt) WHERE attempt IS NOT NULL;
CREATE UNIQUE INDEX offer_one_standing ON offer (order_id) WHERE state IN ('open', 'accepted');
CREATE INDEX offer_slot ON offer (city, slot) WHERE state IN ('open', 'accepted');

CREATE TABLE reservation (
    offer_id uuid NOT NULL REFERENCES offer,
    product_code text NOT NULL,
    order_id uuid NOT NULL,
    pharmacy_id uuid NOT NULL,
    qty int NOT NULL CHECK (qty > 0),
    slot timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('reserved', 'sealed', 'released')),
    sealed_at timestamptz CHECK ((state = 'sealed') <= (sealed_at IS NOT NULL)),
    PRIMARY KEY (offer_id, product_code)
) WITH (fillfactor = 80);
CREATE INDEX reservation_held ON reservation (pharmacy_id, product_code) WHERE state = 'reserved';
CREATE INDEX reservation_sealed ON reservation (pharmacy_id, product_code, sealed_at)
    WHERE state = 'sealed';

-- One worker matches a city at a time; every tick checks the epoch. Real time.
CREATE TABLE city_lease (
    city text PRIMARY KEY,
    holder uuid NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 1),
    until timestamptz NOT NULL
);
