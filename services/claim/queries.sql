-- name: add_transfers
INSERT INTO transfer (id, order_id, tenant_id, attempt, kind, at, call_ref, caused_by)
SELECT id, order_id, tenant_id, attempt, kind, $6, call_ref, caused_by
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $7::text[], $8::uuid[])
    AS new (id, order_id, tenant_id, attempt, kind, call_ref, caused_by);

-- name: add_entries
INSERT INTO entry (transfer_id, account, amount_fen)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[]);

-- name: load_claim
SELECT state FROM state
WHERE order_id = $1 AND state IS NOT NULL AND ($2::uuid IS NULL OR tenant_id = $2);

-- name: load_transfers
SELECT t.attempt, t.kind, t.at, t.call_ref, t.caused_by, e.account, e.amount_fen
FROM transfer t JOIN entry e ON e.transfer_id = t.id
WHERE t.order_id = $1
ORDER BY t.id, e.amount_fen;

-- name: account_totals
SELECT account, sum(amount_fen)::bigint AS fen FROM entry GROUP BY account ORDER BY account;

-- name: transfer_totals
SELECT t.kind, count(DISTINCT t.id) AS count,
       coalesce(sum(e.amount_fen) FILTER (WHERE e.amount_fen > 0), 0)::bigint AS fen
FROM transfer t LEFT JOIN entry e ON e.transfer_id = t.id
GROUP BY t.kind ORDER BY t.kind;

-- name: unbalanced
SELECT t.id FROM transfer t LEFT JOIN entry e ON e.transfer_id = t.id
GROUP BY t.id HAVING count(e.account) < 2 OR sum(e.amount_fen) <> 0
ORDER BY t.id LIMIT 100;

-- name: open_disputes
SELECT order_id, state -> 'dispute' AS dispute, state -> 'case' ->> 'order_number' AS order_number
FROM state WHERE state ->> 'dispute' IS NOT NULL
ORDER BY order_id LIMIT 1000;
