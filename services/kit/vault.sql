-- name: sealing_keys
SELECT order_id, purpose, key_id, wrapped, verdict
FROM kit.sealing_keys($1::uuid[], $2::text[], $3::uuid[], $4::bytea[])

-- name: opening_keys
SELECT key_id, order_id, purpose, wrapped, verdict FROM kit.opening_keys($1::uuid[])

-- name: forget_keys
SELECT kit.forget_keys($1::uuid)
