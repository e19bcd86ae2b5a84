-- name: timezones
SELECT city, timezone FROM city WHERE city = ANY($1::text[]);

-- name: shelves
SELECT pharmacy_id, counts FROM shelf WHERE pharmacy_id = ANY($1::uuid[]);

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
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::json[])
    AS put (pharmacy_id, tenant_id, city, body)
ORDER BY pharmacy_id
ON CONFLICT (pharmacy_id) DO UPDATE
SET city = excluded.city, body = excluded.body;

-- name: put_shelves
INSERT INTO shelf (pharmacy_id, counts)
SELECT pharmacy_id, counts FROM unnest($1::uuid[], $2::json[]) AS put (pharmacy_id, counts)
ORDER BY pharmacy_id
ON CONFLICT (pharmacy_id) DO UPDATE SET counts = excluded.counts;

-- name: pharmacy
SELECT tenant_id, body FROM pharmacy WHERE pharmacy_id = $1;

-- name: city
SELECT city, city_id, name, timezone, tiers, rules, factors FROM city WHERE city = $1;

-- name: cities
SELECT city, name, timezone, tiers, rules ->> 'pack' AS pack FROM city ORDER BY city;
