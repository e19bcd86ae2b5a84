-- pre
-- Codes that did not open a parcel at the counter, until its attempt has ended.
CREATE TABLE wrong_code (
    order_id uuid PRIMARY KEY,
    attempt int NOT NULL,
    tries int NOT NULL,
    last_at timestamptz NOT NULL
) WITH (fillfactor = 80);
