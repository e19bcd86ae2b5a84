-- name: timezones
SELECT city, timezone FROM city WHERE city = ANY($1::text[]);

-- name: last_counts
-- Columns as text.
SELECT pharmacy_id, array_agg(product_code) AS products, array_agg(counted_at) AS times
FROM stock
JOIN unnest($1::text::uuid[], $2::text::text[]) AS asked (pharmacy_id, product_code)
    USING (pharmacy_id, product_code)
GROUP BY pharmacy_id;

-- name: put_cities
INSERT INTO city (city, city_id, name, timezone, tiers, rules, factors)
SELECT city, city_id, name, timezone, string_to_array(tiers, ','), rules, factors
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[])
    AS put (city, city_id, name, timezone, tiers, rules, factors)
ORDER BY city
ON CONFLICT (city) DO UPDATE
SET name = excluded.name, timezone = excluded.timezone, tiers = excluded.tiers,
    rules = excluded.rules, factors = excluded.factors;

-- name: put_pharmacies
INSERT INTO pharmacy (pharmacy_id, tenant_id, city, body)
SELECT pharmacy_id, tenant_id, city, body
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[])
    AS put (pharmacy_id, tenant_id, city, body)
ORDER BY pharmacy_id
ON CONFLICT (pharmacy_id) DO UPDATE
SET city = excluded.city, body = excluded.body;

-- name: put_counts
INSERT INTO stock (pharmacy_id, product_code, count, counted_at, expires_on)
SELECT pharmacy_id, product_code, count, counted_at, expires_on
FROM unnest(
    $1::text::uuid[], $2::text::text[], $3::text::int[], $4::text::timestamptz[], $5::text::date[]
)
    AS put (pharmacy_id, product_code, count, counted_at, expires_on)
ORDER BY pharmacy_id, product_code
ON CONFLICT (pharmacy_id, product_code) DO UPDATE
SET count = excluded.count, counted_at = excluded.counted_at, expires_on = excluded.expires_on
WHERE stock.counted_at < excluded.counted_at;

-- name: pharmacy
SELECT tenant_id, body FROM pharmacy WHERE pharmacy_id = $1;

-- name: stock_of
SELECT product_code, count, counted_at, expires_on FROM stock WHERE pharmacy_id = $1 ORDER BY product_code;

-- name: city
SELECT city, city_id, name, timezone, tiers, rules, factors FROM city WHERE city = $1;

-- name: cities
SELECT city, name, timezone, tiers, rules ->> 'pack' AS pack FROM city ORDER BY city;
