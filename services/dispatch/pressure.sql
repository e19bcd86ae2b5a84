-- name: steps
SELECT city, rules -> 'pressure' AS steps
FROM city
WHERE city = ANY ($1::text[]) AND jsonb_array_length(rules -> 'pressure') > 0;

-- name: under_way
SELECT city, count(*) AS orders
FROM trip
WHERE city = ANY ($1::text[]) AND ended_at IS NULL
GROUP BY city;

-- name: pressures
-- What holds in each city: the last that was noted.
SELECT asked.city, held.since, held.under_way, held.step
FROM unnest($1::text[]) AS asked (city)
CROSS JOIN LATERAL (
    SELECT since, under_way, step FROM pressure
    WHERE pressure.city = asked.city
    ORDER BY since DESC
    LIMIT 1
) AS held;

-- name: note
INSERT INTO pressure (city, since, under_way, step)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::int[], $4::jsonb[])
ON CONFLICT (city, since) DO UPDATE SET under_way = excluded.under_way, step = excluded.step;

-- name: tell
-- Published by the order that made it so; each step under a name of its own.
INSERT INTO timer (order_id, kind, ref, due_at, data)
SELECT order_id, $6, city || ' ' || since, since, jsonb_build_object(
    'city', city, 'since', since, 'under_way', under_way, 'step', step
)
FROM unnest($1::text[], $2::timestamptz[], $3::int[], $4::jsonb[], $5::uuid[])
    AS noted (city, since, under_way, step, order_id)
ORDER BY order_id
ON CONFLICT (order_id, kind, ref) DO UPDATE SET data = excluded.data;

-- name: pressure_at
-- What held at each of these moments.
SELECT asked.at, held.since, held.under_way, held.step
FROM unnest($2::timestamptz[]) AS asked (at)
CROSS JOIN LATERAL (
    SELECT since, under_way, step FROM pressure
    WHERE pressure.city = $1 AND since <= asked.at
    ORDER BY since DESC
    LIMIT 1
) AS held;

-- name: steps_since
SELECT since, under_way, step FROM pressure WHERE city = $1 ORDER BY since DESC LIMIT $2;

-- name: scene
-- All that a quote needs of a city but its pharmacies and their stock.
SELECT kit.now() AS now, city.timezone, city.tiers, city.rules, city.factors,
    coalesce(city_version.version, 0) AS version,
    held.since, held.under_way, held.step, slot.pharmacies, slot.used
FROM city
LEFT JOIN city_version USING (city)
LEFT JOIN LATERAL (
    SELECT since, under_way, step FROM pressure
    WHERE pressure.city = $1
    ORDER BY since DESC
    LIMIT 1
) AS held ON true
CROSS JOIN LATERAL (
    SELECT array_agg(pharmacy_id) AS pharmacies, array_agg(used) AS used
    FROM (
        SELECT pharmacy_id, count(*) AS used
        FROM offer
        WHERE offer.city = $1 AND state IN ('open', 'accepted')
            AND slot = date_bin('10 minutes', kit.now(), 'epoch')
        GROUP BY pharmacy_id
    ) AS each
) AS slot
WHERE city.city = $1;
