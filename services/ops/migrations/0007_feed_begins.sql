-- pre
-- The last entry that was let go of, by tenant: whoever has read less would miss some unheard.
CREATE TABLE feed_begins (
    tenant_id uuid PRIMARY KEY,
    xid xid8 NOT NULL,
    number bigint NOT NULL
);
