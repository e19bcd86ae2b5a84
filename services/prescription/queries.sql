-- Locks first, in the order of the array, so that two submissions of one number meet here.

-- name: lock_names
SELECT pg_advisory_xact_lock(name) FROM unnest($1::bigint[]) AS name

-- name: find_submissions
SELECT tenant_id, order_number, body_hash, order_id
FROM submission
JOIN unnest($1::uuid[], $2::text[]) AS wanted(tenant_id, order_number)
     USING (tenant_id, order_number)

-- name: find_used
SELECT tenant_id, prescription_id, order_id
FROM used_prescription
JOIN unnest($1::uuid[], $2::uuid[]) AS wanted(tenant_id, prescription_id)
     USING (tenant_id, prescription_id)

-- name: find_unfilled
-- Once closed, an order stays what it was.
SELECT order_id FROM state WHERE order_id = ANY($1::uuid[]) AND state ->> 'closed' = $2

-- name: add_submissions
INSERT INTO submission (tenant_id, order_number, body_hash, order_id, at)
SELECT tenant_id, order_number, body_hash, order_id, $5
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[])
     AS new(tenant_id, order_number, body_hash, order_id)

-- name: add_used
INSERT INTO used_prescription (tenant_id, prescription_id, order_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
ON CONFLICT (tenant_id, prescription_id) DO UPDATE SET order_id = excluded.order_id
