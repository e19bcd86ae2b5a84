-- pre
-- Until when what was counted may be dispensed, and the rules of a city's pack.

ALTER TABLE stock ADD COLUMN expires_on date;
ALTER TABLE city ADD COLUMN rules jsonb;
