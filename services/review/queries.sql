-- name: put_cases
INSERT INTO case_queue AS old (
    order_id, tenant_id, city, tier, submitted_at, since, waiting, returned, codes,
    pharmacist, lease_until
)
SELECT order_id, tenant_id, city, tier, submitted_at, $11, waiting, returned,
       string_to_array(codes, ','), pharmacist, lease_until
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::int[], $7::int[],
    $8::text[], $9::text[], $10::timestamptz[]
) AS new(
    order_id, tenant_id, city, tier, submitted_at, waiting, returned, codes,
    pharmacist, lease_until
)
ON CONFLICT (order_id) DO UPDATE SET
    since = CASE WHEN old.waiting = 0 AND excluded.waiting > 0 THEN excluded.since
                 ELSE old.since END,
    waiting = excluded.waiting,
    returned = excluded.returned,
    codes = excluded.codes,
    pharmacist = excluded.pharmacist,
    lease_until = excluded.lease_until

-- name: drop_cases
DELETE FROM case_queue WHERE order_id = ANY($1::uuid[])

-- Emergencies first, then who waits longest. $1 state, $2 city or empty, $3 now, $4 limit.
-- name: list_cases
SELECT order_id, city, tier, submitted_at, since, waiting, returned, codes,
       CASE WHEN lease_until > $3 THEN lease_until END AS lease_until
FROM case_queue
WHERE ($2 = '' OR city = $2)
  AND CASE $1
        WHEN 'waiting' THEN waiting > 0 AND (lease_until IS NULL OR lease_until <= $3)
        WHEN 'taken' THEN waiting > 0 AND lease_until > $3
        WHEN 'returned' THEN waiting = 0
        ELSE true
      END
ORDER BY tier = 'emergency' DESC, since, order_id
LIMIT $4

-- name: get_case
SELECT state, blocked_by FROM state WHERE order_id = $1 AND state IS NOT NULL

-- name: get_slip
SELECT state, tenant_id FROM state WHERE order_id = $1 AND state IS NOT NULL

-- Sorted, and written even where the row is there: so whoever comes second waits for the first.
-- name: lock_people
INSERT INTO person AS known (person, seen_at)
SELECT one, $2 FROM unnest($1::text[]) AS one ORDER BY one
ON CONFLICT (person) DO UPDATE SET seen_at = excluded.seen_at

-- name: find_supply
SELECT person, order_id, prescription_id, tenant_id, ingredients, issued_at, days
FROM supply
WHERE person = ANY($1::text[]) AND until > $2
ORDER BY issued_at, prescription_id, line

-- What was used up long ago goes with the next that comes in, a little at a time, and never waits.
-- name: put_supply
WITH old_supply AS (
    DELETE FROM supply WHERE (order_id, prescription_id, line) IN (
        SELECT order_id, prescription_id, line FROM supply WHERE until < $9
        ORDER BY until LIMIT 100 FOR UPDATE SKIP LOCKED
    )
), old_people AS (
    DELETE FROM person WHERE person IN (
        SELECT person FROM person WHERE seen_at < $9
        ORDER BY seen_at LIMIT 100 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO supply (
    order_id, prescription_id, line, person, tenant_id, ingredients, issued_at, days, until
)
SELECT order_id, prescription_id, line, person, tenant_id, string_to_array(ingredients, '|'),
       issued_at, days, issued_at + days * interval '1 day'
FROM unnest(
    $1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[],
    $8::int[]
) AS new(order_id, prescription_id, line, person, tenant_id, ingredients, issued_at, days)
ON CONFLICT (order_id, prescription_id, line) DO UPDATE SET
    ingredients = excluded.ingredients,
    issued_at = excluded.issued_at,
    days = excluded.days,
    until = excluded.until

-- name: drop_supply
DELETE FROM supply USING unnest($1::uuid[], $2::uuid[]) AS gone(order_id, prescription_id)
WHERE supply.order_id = gone.order_id AND supply.prescription_id = gone.prescription_id
