-- pre
-- Bodies are written whole and read whole: taking them apart and compressing them was most of what
-- writing a state cost. Rewrites these tables once, under a lock.

ALTER TABLE state ALTER COLUMN state TYPE json, ALTER COLUMN state SET STORAGE EXTERNAL;
ALTER TABLE call
    ALTER COLUMN request TYPE json, ALTER COLUMN request SET STORAGE EXTERNAL,
    ALTER COLUMN response TYPE json, ALTER COLUMN response SET STORAGE EXTERNAL;
ALTER TABLE outbox ALTER COLUMN body SET STORAGE EXTERNAL;
