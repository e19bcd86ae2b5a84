-- name: hold_codes
INSERT INTO trace_code (code)
SELECT code FROM unnest($1::text[]) AS scanned (code) ORDER BY code
ON CONFLICT (code) DO NOTHING

-- name: lock_codes
SELECT code, order_id, state, coalesce(returned_at, sold_at, sealed_at) AS since
FROM trace_code
WHERE code = ANY ($1::text[]) OR order_id = ANY ($2::uuid[])
ORDER BY code
FOR UPDATE

-- name: put_codes_into_parcels
UPDATE trace_code AS held
SET tenant_id = put.tenant_id, order_id = put.order_id, attempt = put.attempt,
    line_id = put.line_id, state = 'sealed', sealed_at = $6
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[], $5::uuid[])
    AS put (code, tenant_id, order_id, attempt, line_id)
WHERE held.code = put.code AND held.order_id IS NULL

-- name: sell_codes
UPDATE trace_code AS held
SET state = 'sold', sold_at = $3
FROM unnest($1::uuid[], $2::int[]) AS sold (order_id, attempt)
WHERE held.order_id = sold.order_id AND held.attempt = sold.attempt AND held.state = 'sealed'

-- name: keep_returned_codes
UPDATE trace_code AS held
SET state = 'returned', returned_at = $3
FROM unnest($1::uuid[], $2::int[]) AS back (order_id, attempt)
WHERE held.order_id = back.order_id AND held.attempt = back.attempt AND held.state = 'sold'

-- name: free_codes
DELETE FROM trace_code AS held
USING unnest($1::uuid[], $2::int[]) AS undone (order_id, attempt)
WHERE held.order_id = undone.order_id AND held.attempt = undone.attempt
    AND held.state IN ('sealed', 'sold')

-- name: get_delivery
SELECT tenant_id, state, blocked_by FROM state WHERE order_id = $1 AND state IS NOT NULL

-- name: wait_for_courier
INSERT INTO courier_wanted (order_id, city, ready_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])
ON CONFLICT (order_id) DO UPDATE SET ready_at = excluded.ready_at

-- name: wait_no_more
DELETE FROM courier_wanted WHERE order_id = ANY ($1::uuid[])

-- name: courier_wanted
SELECT order_id, wanted.ready_at, state.state
FROM courier_wanted AS wanted
JOIN state USING (order_id)
WHERE wanted.city = $1 AND state.blocked_by IS NULL
ORDER BY wanted.ready_at, order_id
LIMIT $2

-- name: wrong_codes
SELECT order_id, attempt, tries, last_at FROM wrong_code WHERE order_id = ANY ($1::uuid[])

-- name: count_wrong_code
INSERT INTO wrong_code (order_id, attempt, tries, last_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (order_id) DO UPDATE
SET attempt = excluded.attempt, tries = excluded.tries, last_at = excluded.last_at

-- name: forget_wrong_codes
DELETE FROM wrong_code WHERE order_id = ANY ($1::uuid[])
