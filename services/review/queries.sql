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
