-- pre
-- Why a tier was left is kept for a time: the oldest are found first.

CREATE INDEX fall_at ON fall (at);
