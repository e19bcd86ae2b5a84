-- pre
-- What grows with every order must not be read to find what is open, nor be sampled for statistics.

-- Open calls by their age, however many have been answered.
CREATE INDEX call_open_id ON call (id) WHERE state <> 'answered';

-- Bodies are never searched: comparing a sample of them is most of what ANALYZE costs.
ALTER TABLE state ALTER COLUMN state SET STATISTICS 0;
ALTER TABLE outbox ALTER COLUMN body SET STATISTICS 0;
ALTER TABLE call ALTER COLUMN request SET STATISTICS 0, ALTER COLUMN response SET STATISTICS 0;
ALTER TABLE idempotency ALTER COLUMN answer SET STATISTICS 0;
ALTER TABLE audit ALTER COLUMN payload_hash SET STATISTICS 0, ALTER COLUMN hash SET STATISTICS 0;
