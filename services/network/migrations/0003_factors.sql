-- pre
-- What operations said of a city beside its pack: weather, holidays, great events.

ALTER TABLE city ADD COLUMN factors jsonb NOT NULL DEFAULT '[]';
