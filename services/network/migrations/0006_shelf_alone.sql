-- post
-- What was counted in rows since their copy was made, by processes that have ended now, comes into
-- the documents; of each product the later count holds.

LOCK TABLE shelf IN SHARE ROW EXCLUSIVE MODE;

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
    FROM (
        SELECT DISTINCT ON (pharmacy_id, product_code) *
        FROM (
            SELECT pharmacy_id, product_code, count, counted_at, expires_on FROM stock
            UNION ALL
            SELECT pharmacy_id, one.product_code, one.packs::int,
                (counts -> 'times' ->> one.at::int)::timestamptz,
                (counts -> 'days' ->> one.until::int)::date
            FROM shelf, ROWS FROM (
                json_array_elements_text(counts -> 'products'),
                json_array_elements_text(counts -> 'packs'),
                json_array_elements_text(counts -> 'at'),
                json_array_elements_text(counts -> 'until')
            ) AS one (product_code, packs, at, until)
            WHERE pharmacy_id IN (SELECT stock.pharmacy_id FROM stock)
        ) AS both_of_them
        ORDER BY pharmacy_id, product_code, counted_at DESC
    ) AS latest
) AS placed
GROUP BY pharmacy_id
ON CONFLICT (pharmacy_id) DO UPDATE SET counts = excluded.counts;

DROP TABLE stock;
