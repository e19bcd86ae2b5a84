-- name: lock_heads
SELECT partition, seq, hash FROM audit_head
WHERE partition = ANY ($1::int[]) ORDER BY partition FOR UPDATE

-- name: append
WITH heads AS (
    UPDATE audit_head h SET seq = u.seq, hash = u.hash
    FROM unnest($1::int[], $2::bigint[], $3::bytea[]) AS u(partition, seq, hash)
    WHERE h.partition = u.partition
)
INSERT INTO audit (partition, seq, at, tenant_id, actor, action, subject, payload_hash, hash)
SELECT * FROM unnest($4::int[], $5::bigint[], $6::timestamptz[], $7::uuid[], $8::text[],
                     $9::text[], $10::uuid[], $11::bytea[], $12::bytea[])

-- name: heads
SELECT partition, seq, hash FROM audit_head ORDER BY partition

-- name: rows
SELECT partition, seq, at, tenant_id, actor, action, subject, payload_hash, hash FROM audit
ORDER BY partition, seq

-- name: set_schema
SELECT set_config('search_path', $1, true)
