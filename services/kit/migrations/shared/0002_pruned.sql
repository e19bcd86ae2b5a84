-- pre
-- What `yaoda prune` let go of: how many numbered facts of a key, and the highest of their numbers,
-- so that what is left can still be counted without a hole. One row for each run.

CREATE TABLE pruned (
    service text NOT NULL,
    key uuid NOT NULL,
    facts int NOT NULL CHECK (facts > 0),
    last int NOT NULL,
    PRIMARY KEY (service, key)
);

CREATE TABLE pruning (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    before timestamptz NOT NULL,
    orders bigint NOT NULL,
    rows jsonb NOT NULL
);
