-- pre
-- Facts and entries are written once and read whole. Rewrites the timeline once, under a lock.

ALTER TABLE timeline ALTER COLUMN data TYPE json, ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE feed ALTER COLUMN data SET STORAGE EXTERNAL;
