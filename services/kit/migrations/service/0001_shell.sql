-- pre
-- The tables of the batch shell; one set in the schema of every service.

CREATE TABLE position (
    topic text NOT NULL,
    part int NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    epoch int NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, part)
);

CREATE TABLE inbox (
    event_day date NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (event_day, event_id)
);

-- One row an aggregate (for most services an order). Version counts published events.
CREATE TABLE state (
    order_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    version int NOT NULL DEFAULT 0,
    state jsonb,
    blocked_by uuid
) WITH (fillfactor = 80);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard int NOT NULL,
    topic text NOT NULL,
    key uuid NOT NULL,
    event_id uuid NOT NULL,
    type text NOT NULL,
    version int NOT NULL,
    aggregate_version int NOT NULL,
    tenant_id uuid NOT NULL,
    time timestamptz NOT NULL,
    correlation_id uuid,
    causation_id uuid,
    attempt int,
    body bytea NOT NULL CHECK (octet_length(body) <= 900000),
    published_at timestamptz,
    UNIQUE (event_id)
);
CREATE INDEX outbox_unpublished ON outbox (shard, id) WHERE published_at IS NULL;
CREATE UNIQUE INDEX outbox_version ON outbox (key, aggregate_version) WHERE aggregate_version > 0;

CREATE TABLE relay_heartbeat (
    shard int PRIMARY KEY,
    pid int NOT NULL,
    at timestamptz NOT NULL
);

CREATE TABLE timer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL,
    kind text NOT NULL,
    ref text NOT NULL,
    due_at timestamptz NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    answered_over_http boolean NOT NULL DEFAULT false,
    UNIQUE (order_id, kind, ref)
);
CREATE INDEX timer_due ON timer (due_at);
CREATE INDEX timer_kind ON timer (kind, ref, due_at);

CREATE TABLE call (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    kind text NOT NULL,
    ref text NOT NULL,
    request jsonb NOT NULL,
    request_hash text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'answered')),
    epoch int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    next_try_at timestamptz NOT NULL,
    outcome text,
    response jsonb,
    UNIQUE (order_id, kind, ref)
);
CREATE INDEX call_open ON call (next_try_at) WHERE state <> 'answered';

-- Legal but too early: waits for a predecessor from another topic.
CREATE TABLE waiting (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    part int NOT NULL,
    record_offset bigint NOT NULL,
    headers jsonb NOT NULL,
    body bytea,
    since timestamptz NOT NULL,
    deadline timestamptz NOT NULL
);
CREATE INDEX waiting_order ON waiting (order_id, seq);
CREATE INDEX waiting_deadline ON waiting (deadline);

-- The dead letters: parked messages, what came behind them, and refused intake commands.
CREATE TABLE parked (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid,
    order_id uuid,
    tenant_id uuid,
    message_type text NOT NULL,
    source text NOT NULL,
    topic text,
    part int,
    record_offset bigint,
    record_key bytea,
    headers jsonb NOT NULL,
    body bytea,
    code text NOT NULL,
    field text NOT NULL DEFAULT '',
    detail text NOT NULL,
    state text NOT NULL CHECK (state IN ('parked', 'behind', 'refused', 'replayed', 'discarded')),
    attempts int NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    actor text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX parked_open ON parked (order_id, seq) WHERE state IN ('parked', 'behind');
CREATE UNIQUE INDEX parked_record ON parked (topic, part, record_offset);

CREATE TABLE idempotency (
    tenant_id uuid NOT NULL,
    key text NOT NULL,
    request_hash text NOT NULL,
    status int,
    answer jsonb,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

-- Up to when this service was alive: timers that people answer are put off by the gap.
CREATE TABLE alive (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at timestamptz NOT NULL
);

-- Which process is the worker of a slot; the newest wins, an older one ends itself.
CREATE TABLE worker (
    slot int PRIMARY KEY,
    token uuid NOT NULL,
    at timestamptz NOT NULL
);
