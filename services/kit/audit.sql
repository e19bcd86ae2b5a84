-- name: lock_heads
SELECT partition, seq, hash FROM audit_head
WHERE partition = ANY ($1::int[]) ORDER BY partition FOR UPDATE

-- name: append
INSERT INTO audit (partition, seq, at, tenant_id, actor, action, subject, payload_hash, hash)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::text[],
                     $6::text[], $7::uuid[], $8::bytea[], $9::bytea[])

-- name: move_heads
UPDATE audit_head h SET seq = u.seq, hash = u.hash
FROM unnest($1::int[], $2::bigint[], $3::bytea[]) AS u(partition, seq, hash)
WHERE h.partition = u.partition

-- name: heads
SELECT partition, seq, hash FROM audit_head ORDER BY partition

-- name: rows
SELECT partition, seq, at, tenant_id, actor, action, subject, payload_hash, hash FROM audit
ORDER BY partition, seq

-- name: set_schema
SELECT set_config('search_path', $1, true)
