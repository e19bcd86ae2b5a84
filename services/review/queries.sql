-- name: put_cases
INSERT INTO case_queue AS old (
    order_id, tenant_id, city, tier, submitted_at, since, waiting, returned, codes,
    pharmacist, lease_until, lease, lease_tenant, promise_at, decide_by, severity, findings, wants
)
SELECT order_id, tenant_id, city, tier, submitted_at, since, waiting, returned,
       string_to_array(codes, ','), pharmacist, lease_until, lease, lease_tenant, promise_at,
       decide_by, severity, findings, string_to_array(wants, ',')
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
    $7::int[], $8::int[], $9::text[], $10::text[], $11::timestamptz[], $12::uuid[], $13::uuid[],
    $14::timestamptz[], $15::timestamptz[], $16::text[], $17::int[], $18::text[]
) AS new(
    order_id, tenant_id, city, tier, submitted_at, since, waiting, returned, codes,
    pharmacist, lease_until, lease, lease_tenant, promise_at, decide_by, severity, findings, wants
)
ON CONFLICT (order_id) DO UPDATE SET
    since = excluded.since,
    waiting = excluded.waiting,
    returned = excluded.returned,
    codes = excluded.codes,
    pharmacist = excluded.pharmacist,
    lease_until = excluded.lease_until,
    lease = excluded.lease,
    lease_tenant = excluded.lease_tenant,
    promise_at = excluded.promise_at,
    decide_by = excluded.decide_by,
    severity = excluded.severity,
    findings = excluded.findings,
    wants = excluded.wants

-- name: drop_cases
DELETE FROM case_queue WHERE order_id = ANY($1::uuid[])

-- The places whose cases lie at the desk, each with its own policy, and their longest wait.
-- name: list_places
SELECT city, tenant_id AS hospital_id, min(since) AS since
FROM case_queue GROUP BY city, tenant_id

-- By the time that is left to the promise. $1 state, $2 city or empty, $3 now, $4 limit, $5 and $6
-- cities and hospitals of the places that may be shown, $7 pharmacist or empty, $8 who asks.
-- name: list_cases
SELECT order_id, city, tenant_id AS hospital_id, tier, submitted_at, since, waiting, returned,
       codes, promise_at, decide_by, severity, findings, wants,
       CASE WHEN lease_until > $3 THEN lease_until END AS lease_until,
       CASE WHEN lease_until > $3 AND lease_tenant = $8 THEN pharmacist END AS pharmacist
FROM case_queue
WHERE ($2 = '' OR city = $2)
  AND (city, tenant_id) IN (SELECT * FROM unnest($5::text[], $6::uuid[]))
  AND ($7 = '' OR (pharmacist = $7 AND lease_until > $3 AND lease_tenant = $8))
  AND CASE $1
        WHEN 'waiting' THEN waiting > 0 AND (lease_until IS NULL OR lease_until <= $3)
        WHEN 'taken' THEN waiting > 0 AND lease_until > $3
        WHEN 'returned' THEN waiting = 0
        ELSE true
      END
ORDER BY waiting = 0, coalesce(promise_at, submitted_at), since, order_id
LIMIT $4

-- name: list_leases
SELECT order_id, lease FROM case_queue
WHERE lease_tenant = $1 AND pharmacist = $2 AND lease_until > $3 AND lease IS NOT NULL
ORDER BY coalesce(promise_at, submitted_at), order_id

-- name: desk_load
SELECT count(*) AS waiting, count(*) FILTER (WHERE lease_until > $1) AS in_hand
FROM case_queue WHERE waiting > 0

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

-- What is old goes with the next that comes in, a little at a time.
-- name: put_dark
WITH old AS (
    DELETE FROM dark_verdict WHERE (dark_pack, prescription_id, version) IN (
        SELECT dark_pack, prescription_id, version FROM dark_verdict WHERE at < $13
        ORDER BY at LIMIT 100 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO dark_verdict (
    prescription_id, version, dark_pack, live_pack, order_id, city, at, live, dark, appeared,
    vanished, differs
)
SELECT prescription_id, version, dark_pack, live_pack, order_id, city, $12, live, dark,
       string_to_array(appeared, '|'), string_to_array(vanished, '|'), differs
FROM unnest(
    $1::uuid[], $2::int[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::bool[]
) AS new(
    prescription_id, version, dark_pack, live_pack, order_id, city, live, dark, appeared, vanished,
    differs
)
ON CONFLICT DO NOTHING

-- name: dark_words
SELECT dark_pack, live_pack, live, dark, count(*) AS count,
       count(*) FILTER (WHERE differs) AS differ, min(at) AS since, max(at) AS until
FROM dark_verdict WHERE ($1 = '' OR city = $1)
GROUP BY dark_pack, live_pack, live, dark ORDER BY dark_pack, live_pack, count(*) DESC, live, dark

-- name: dark_rules
SELECT dark_pack, live_pack, rule, count(*) FILTER (WHERE new) AS appeared,
       count(*) FILTER (WHERE NOT new) AS vanished
FROM (
    SELECT dark_pack, live_pack, unnest(appeared) AS rule, true AS new
    FROM dark_verdict WHERE ($1 = '' OR city = $1)
    UNION ALL
    SELECT dark_pack, live_pack, unnest(vanished), false
    FROM dark_verdict WHERE ($1 = '' OR city = $1)
) AS words
GROUP BY dark_pack, live_pack, rule ORDER BY dark_pack, live_pack, count(*) DESC, rule

-- name: dark_latest
SELECT dark_pack, live_pack, order_id, prescription_id, version, at, live, dark, appeared, vanished
FROM dark_verdict WHERE differs AND ($1 = '' OR city = $1) ORDER BY at DESC LIMIT $2

-- name: missing_in_archive
SELECT name FROM unnest($1::text[]) AS name
WHERE NOT EXISTS (SELECT FROM archive AS kept WHERE kept.name = name)

-- name: put_archive
INSERT INTO archive (name, kind, content) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING

-- name: get_archive
SELECT name, kind, content FROM archive WHERE name = ANY($1::text[])
