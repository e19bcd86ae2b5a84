-- pre
-- Bodies are never searched: comparing a sample of them is most of what ANALYZE costs.

ALTER TABLE timeline ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE feed ALTER COLUMN data SET STATISTICS 0;
