-- pre
-- What the desk orders its queue by, and whose leases are handed over at the end of a shift.

ALTER TABLE case_queue
    ADD COLUMN lease uuid,
    ADD COLUMN lease_tenant uuid,
    ADD COLUMN promise_at timestamptz,
    ADD COLUMN decide_by timestamptz,
    ADD COLUMN severity text NOT NULL DEFAULT '',
    ADD COLUMN findings int NOT NULL DEFAULT 0,
    ADD COLUMN wants text[] NOT NULL DEFAULT '{}';
CREATE INDEX case_queue_lease ON case_queue (lease_tenant) WHERE lease IS NOT NULL;

-- What packs in the dark would have said, one row a version of a prescription that they were asked
-- about. Nothing here leads to a person or to what was prescribed.
CREATE TABLE dark_verdict (
    prescription_id uuid NOT NULL,
    version int NOT NULL,
    dark_pack text NOT NULL,
    live_pack text NOT NULL,
    order_id uuid NOT NULL,
    city text NOT NULL,
    at timestamptz NOT NULL,
    live text NOT NULL,
    dark text NOT NULL,
    appeared text[] NOT NULL,
    vanished text[] NOT NULL,
    differs boolean NOT NULL,
    PRIMARY KEY (dark_pack, prescription_id, version)
);
CREATE INDEX dark_verdict_age ON dark_verdict (at);
