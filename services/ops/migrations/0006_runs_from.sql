-- pre
-- From when on promised time is used up. Null in rows of before: there it is authorised_at.
ALTER TABLE order_view ADD COLUMN runs_from timestamptz;
