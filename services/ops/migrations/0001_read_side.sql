-- pre
-- What people and partners read. Each row is written in the transaction that took its fact in.

CREATE TABLE order_view (
    order_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    order_number text NOT NULL,
    city text NOT NULL,
    tier text NOT NULL,
    promised_tier text NOT NULL,
    place text NOT NULL,
    outcome text,
    late boolean NOT NULL,
    attempt int NOT NULL,
    pharmacy_id uuid,
    parked int NOT NULL,
    submitted_at timestamptz,
    authorised_at timestamptz,
    due_at timestamptz,
    delivered_at timestamptz,
    closed_at timestamptz,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX order_view_tenant ON order_view (tenant_id, order_id);
CREATE INDEX order_view_number ON order_view (order_number);
CREATE INDEX order_view_clock ON order_view (due_at)
WHERE due_at IS NOT NULL AND delivered_at IS NULL AND closed_at IS NULL;

-- Every fact of an order as it was taken in; seq counts within the order.
CREATE TABLE timeline (
    order_id uuid NOT NULL,
    seq int NOT NULL,
    event_id uuid NOT NULL UNIQUE,
    type text NOT NULL,
    at timestamptz NOT NULL,
    topic text NOT NULL,
    part int NOT NULL,
    record_offset bigint NOT NULL,
    data jsonb NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    number bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (order_id, seq)
);
CREATE UNIQUE INDEX timeline_feed ON timeline (xid, number);

-- What one tenant may see. A number is given at the insert and seen at the commit, so a reader
-- of "number > last" would skip late commits: it reads by transaction first (see read_feed).
CREATE TABLE feed (
    tenant_id uuid NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    number bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    entry_type text NOT NULL,
    subject uuid NOT NULL,
    at timestamptz NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (tenant_id, xid, number)
);

CREATE TABLE pharmacy_owner (
    pharmacy_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    city text NOT NULL,
    name text NOT NULL
);
