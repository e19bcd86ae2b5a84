-- pre
-- What a breach is counted from. Null in rows of before: there it is due_at.
ALTER TABLE order_view ADD COLUMN promised_at timestamptz;
