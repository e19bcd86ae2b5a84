-- pre
-- What was asked under a key, for whoever queries it later.

ALTER TABLE call ADD COLUMN body text NOT NULL DEFAULT '';

-- Where a settlement is cleared, for the daily statement.
ALTER TABLE settlement
    ADD COLUMN payer_area text NOT NULL DEFAULT '',
    ADD COLUMN visit_id text NOT NULL DEFAULT '';

CREATE TABLE statement_file (
    number text PRIMARY KEY,
    content text NOT NULL
);
