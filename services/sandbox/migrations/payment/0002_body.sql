-- pre
-- What was asked under a key, for whoever queries it later.

ALTER TABLE call ADD COLUMN body text NOT NULL DEFAULT '';
