-- pre
-- Why each offer went where it went: who passed, what greedy would have done.

ALTER TABLE offer ADD COLUMN tier text;
ALTER TABLE offer ADD COLUMN reasons jsonb;
