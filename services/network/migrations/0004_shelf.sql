-- pre
-- The last counts of a pharmacy as one document instead of a row for each product. The rows stay
-- until the last process that writes them has ended.

CREATE TABLE shelf (
    pharmacy_id uuid PRIMARY KEY,
    counts json NOT NULL
) WITH (fillfactor = 80);
ALTER TABLE shelf ALTER COLUMN counts SET STORAGE EXTERNAL;

INSERT INTO shelf (pharmacy_id, counts)
SELECT pharmacy_id, json_build_object(
    'products', json_agg(product_code ORDER BY product_code),
    'packs', json_agg(count ORDER BY product_code),
    'at', json_agg(place ORDER BY product_code),
    'until', json_agg(place ORDER BY product_code),
    'times', json_agg(
        to_char(counted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
        ORDER BY product_code
    ),
    'days', json_agg(expires_on ORDER BY product_code)
)
FROM (
    SELECT *, row_number() OVER (PARTITION BY pharmacy_id ORDER BY product_code) - 1 AS place
    FROM stock
) AS placed
GROUP BY pharmacy_id;
