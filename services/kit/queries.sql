-- name: lock_positions
SELECT topic, part, next_offset, kit.now() AS now FROM position
WHERE (topic, part) IN (SELECT * FROM unnest($1::text[], $2::int[]))
ORDER BY topic, part FOR UPDATE

-- name: advance_positions
UPDATE position p SET next_offset = u.next_offset
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, part, next_offset)
WHERE p.topic = u.topic AND p.part = u.part

-- name: enter_inbox
INSERT INTO inbox (event_day, event_id)
SELECT * FROM unnest($1::date[], $2::uuid[]) AS u(day, id) ORDER BY day, id
ON CONFLICT DO NOTHING RETURNING event_id

-- name: claim_idempotency
INSERT INTO idempotency (tenant_id, key, request_hash, at)
SELECT tenant_id, key, hash, $4 FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u(tenant_id, key, hash)
ORDER BY tenant_id, key
ON CONFLICT DO NOTHING RETURNING tenant_id, key

-- name: read_idempotency
SELECT tenant_id, key, request_hash, status, answer FROM idempotency
WHERE (tenant_id, key) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))

-- name: answer_idempotency
UPDATE idempotency i SET status = u.status, answer = u.answer
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::jsonb[]) AS u(tenant_id, key, status, answer)
WHERE i.tenant_id = u.tenant_id AND i.key = u.key

-- name: forget_idempotency
DELETE FROM idempotency i USING unnest($1::uuid[], $2::text[]) AS u(tenant_id, key)
WHERE i.tenant_id = u.tenant_id AND i.key = u.key

-- name: create_states
-- A row that poison made belongs to nobody until a message that can be read names its tenant.
INSERT INTO state (order_id, tenant_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS u(order_id, tenant_id) ORDER BY order_id
ON CONFLICT (order_id) DO UPDATE SET tenant_id = excluded.tenant_id
WHERE state.tenant_id = '00000000-0000-0000-0000-000000000000'
  AND excluded.tenant_id <> state.tenant_id

-- name: lock_states
SELECT order_id, tenant_id, version, state, blocked_by FROM state
WHERE order_id = ANY($1::uuid[]) ORDER BY order_id FOR UPDATE

-- name: save_states
-- NULL where the state did not change.
UPDATE state s SET version = u.version, state = coalesce(u.state, s.state), blocked_by = u.blocked_by
FROM unnest($1::uuid[], $2::int[], $3::json[], $4::uuid[]) AS u(order_id, version, state, blocked_by)
WHERE s.order_id = u.order_id

-- name: drop_empty_states
DELETE FROM state WHERE order_id = ANY($1::uuid[]) AND version = 0 AND state IS NULL AND blocked_by IS NULL

-- name: load_waiting
-- One that was redriven and had to wait is a dead letter already.
SELECT seq, order_id, tenant_id, event_id, topic, part, record_offset, headers, body,
       (SELECT id FROM parked p
        WHERE p.topic = w.topic AND p.part = w.part AND p.record_offset = w.record_offset
          AND coalesce(p.event_id, w.event_id) = w.event_id) AS letter
FROM waiting w WHERE order_id = ANY($1::uuid[]) ORDER BY seq

-- name: store_waiting
INSERT INTO waiting (order_id, tenant_id, event_id, topic, part, record_offset, headers, body, since, deadline)
SELECT order_id, tenant_id, event_id, topic, part, record_offset, headers, body, $9, $10
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::bigint[], $7::jsonb[], $8::bytea[])
     WITH ORDINALITY AS u(order_id, tenant_id, event_id, topic, part, record_offset, headers, body, n)
ORDER BY n

-- name: drop_waiting
DELETE FROM waiting WHERE seq = ANY($1::bigint[])

-- name: overdue_waiting
SELECT DISTINCT order_id, tenant_id FROM waiting WHERE deadline <= $1 LIMIT 100

-- name: due_timers
-- Laterally, so that no plan can begin with the states: there is one for every order there ever was.
SELECT t.id, t.order_id, s.tenant_id, t.kind, t.ref, t.due_at, t.data
FROM timer t CROSS JOIN LATERAL (
    SELECT tenant_id, blocked_by FROM state WHERE order_id = t.order_id OFFSET 0) s
WHERE t.due_at <= kit.now() AND s.blocked_by IS NULL AND t.kind <> ALL($1::text[])
    AND (t.due_at, t.id) > ($3, $4::bigint)
ORDER BY t.due_at, t.id LIMIT $2

-- name: due_timers_of_kind
SELECT t.id, t.order_id, s.tenant_id, t.kind, t.ref, t.due_at, t.data
FROM timer t CROSS JOIN LATERAL (
    SELECT tenant_id, blocked_by FROM state WHERE order_id = t.order_id OFFSET 0) s
WHERE t.kind = $1 AND t.ref = $2 AND t.due_at <= kit.now() AND s.blocked_by IS NULL
ORDER BY t.due_at, t.id LIMIT $3

-- name: still_due
SELECT id FROM timer WHERE id = ANY($1::bigint[]) AND due_at <= $2

-- name: set_timers
INSERT INTO timer (order_id, kind, ref, due_at, data, answered_over_http)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::jsonb[], $6::bool[])
     AS u(order_id, kind, ref, due_at, data, http) ORDER BY order_id, kind, ref
ON CONFLICT (order_id, kind, ref) DO UPDATE SET due_at = excluded.due_at, data = excluded.data,
    answered_over_http = excluded.answered_over_http

-- name: drop_timers
DELETE FROM timer t USING unnest($1::uuid[], $2::text[], $3::text[]) AS u(order_id, kind, ref)
WHERE t.order_id = u.order_id AND t.kind = u.kind AND t.ref = u.ref

-- name: add_calls
-- The first $7 are leased for $8 seconds by who writes them.
INSERT INTO call (order_id, tenant_id, kind, ref, request, request_hash, next_try_at, state, epoch,
                  attempts, lease_until)
SELECT order_id, tenant_id, kind, ref, request, hash, clock_timestamp(),
       CASE WHEN n <= $7 THEN 'sent' ELSE 'pending' END, (n <= $7)::int, (n <= $7)::int,
       CASE WHEN n <= $7 THEN clock_timestamp() + make_interval(secs => $8) END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::json[], $6::text[]) WITH ORDINALITY
     AS u(order_id, tenant_id, kind, ref, request, hash, n) ORDER BY order_id, kind, ref
RETURNING id, order_id, kind, ref, epoch

-- name: answer_calls
UPDATE call c SET state = 'answered', outcome = u.outcome, response = u.response, lease_until = NULL
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::json[]) AS u(id, epoch, outcome, response)
WHERE c.id = u.id AND c.epoch = u.epoch AND c.state = 'sent' RETURNING c.id

-- name: add_outbox
INSERT INTO outbox (shard, topic, key, event_id, type, version, aggregate_version, tenant_id, time,
                    correlation_id, causation_id, attempt, body)
SELECT shard, topic, key, event_id, type, version, aggregate_version, tenant_id, $13, correlation_id,
       causation_id, attempt, body
FROM unnest($1::int[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::int[], $7::int[], $8::uuid[],
            $9::uuid[], $10::uuid[], $11::int[], $12::bytea[]) WITH ORDINALITY
     AS u(shard, topic, key, event_id, type, version, aggregate_version, tenant_id, correlation_id,
          causation_id, attempt, body, n)
ORDER BY n

-- name: add_parked
INSERT INTO parked (id, event_id, order_id, tenant_id, message_type, source, topic, part, record_offset,
                    record_key, headers, body, code, field, detail, state, first_at, last_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)
ON CONFLICT (topic, part, record_offset) DO UPDATE
SET state = excluded.state, code = excluded.code, field = excluded.field, detail = excluded.detail,
    attempts = parked.attempts + 1, last_at = excluded.last_at
WHERE parked.state = 'replayed' AND parked.id = excluded.id

-- name: list_parked
SELECT id, seq, event_id, order_id, tenant_id, message_type, source, topic, part, record_offset,
       code, field, detail, state, attempts, first_at, last_at, actor, reason,
       (SELECT count(*) FROM correction c WHERE c.parked_id = p.id) AS corrections
FROM parked p
WHERE ($1::text[] IS NULL OR state = ANY ($1)) AND ($2::uuid IS NULL OR order_id = $2)
  AND ($3::text IS NULL OR code = $3) AND ($4::text IS NULL OR message_type = $4)
  AND ($5::float8 IS NULL OR first_at <= kit.now() - make_interval(secs => $5))
  AND ($6::bigint IS NULL OR seq < $6)
ORDER BY seq DESC LIMIT $7

-- name: count_parked
SELECT count(*) FROM parked p
WHERE ($1::text[] IS NULL OR state = ANY ($1)) AND ($2::uuid IS NULL OR order_id = $2)
  AND ($3::text IS NULL OR code = $3) AND ($4::text IS NULL OR message_type = $4)
  AND ($5::float8 IS NULL OR first_at <= kit.now() - make_interval(secs => $5))

-- name: get_parked
SELECT p.id, p.seq, p.event_id, p.order_id, p.tenant_id, p.message_type, p.source, p.topic, p.part,
       p.record_offset, p.code, p.field, p.detail, p.state, p.attempts, p.first_at, p.last_at, p.actor, p.reason,
       coalesce(c.number, 0) AS corrections, p.headers AS headers_came, p.body AS body_came,
       CASE WHEN c.number IS NULL THEN p.record_key ELSE c.record_key END AS record_key,
       CASE WHEN c.number IS NULL THEN p.headers ELSE c.headers END AS headers,
       CASE WHEN c.number IS NULL THEN p.body ELSE c.body END AS body
FROM parked p
LEFT JOIN LATERAL (SELECT * FROM correction WHERE parked_id = p.id ORDER BY number DESC LIMIT 1) c ON true
WHERE p.id = ANY($1::uuid[]) ORDER BY p.seq

-- name: lock_chain
SELECT id FROM parked WHERE order_id = $1 AND state IN ('parked', 'behind') ORDER BY seq FOR UPDATE

-- name: settle_parked
UPDATE parked SET state = $2, attempts = attempts + 1, last_at = $3, actor = $4, reason = $5
WHERE id = $1

-- name: parked_again
UPDATE parked SET state = 'parked', attempts = attempts + 1, last_at = $2, code = $3, field = $4, detail = $5
WHERE id = $1

-- name: tried_parked
UPDATE parked SET attempts = attempts + 1, last_at = kit.now(), actor = $2, reason = $3 WHERE id = $1

-- name: lock_parked
SELECT state FROM parked WHERE id = $1 FOR UPDATE

-- name: corrections
SELECT number, record_key, headers, body, actor, reason, at FROM correction WHERE parked_id = $1 ORDER BY number

-- name: add_correction
INSERT INTO correction (parked_id, number, record_key, headers, body, actor, reason, at)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, $6, kit.now() FROM correction WHERE parked_id = $1
RETURNING number

-- name: in_inbox
SELECT EXISTS (SELECT FROM inbox WHERE event_day = $1 AND event_id = $2)

-- name: unpublished
-- Laterally, so that no plan can begin with the outbox: it holds every fact there ever was.
SELECT q.id, q.shard, o.*
FROM (SELECT id, shard FROM outbox_open WHERE shard = ANY($1::int[]) ORDER BY id LIMIT $2) q
CROSS JOIN LATERAL (
    SELECT topic, key, event_id, type, version, aggregate_version, tenant_id, time, correlation_id,
           causation_id, attempt, body
    FROM outbox WHERE id = q.id OFFSET 0) o
ORDER BY q.id

-- name: mark_published
DELETE FROM outbox_open WHERE id = ANY($1::bigint[])

-- name: beat
INSERT INTO relay_heartbeat (shard, pid, at)
SELECT shard, pg_backend_pid(), clock_timestamp() FROM unnest($1::int[]) AS u(shard)
ON CONFLICT (shard) DO UPDATE SET pid = excluded.pid, at = excluded.at

-- name: end_beat
DELETE FROM relay_heartbeat WHERE shard = $1 AND pid = pg_backend_pid()

-- name: stale_beats
SELECT shard, pid FROM relay_heartbeat
WHERE shard = ANY($1::int[]) AND at < clock_timestamp() - make_interval(secs => $2)

-- name: keep_alive
INSERT INTO alive (one, at) VALUES (true, kit.now())
ON CONFLICT (one) DO UPDATE SET at = excluded.at

-- name: put_off_timers
-- Other workers may be at it: as everywhere, orders are locked before their timers.
WITH a AS MATERIALIZED (SELECT at FROM alive FOR UPDATE),
locked AS MATERIALIZED (
    SELECT s.order_id FROM state s
    WHERE s.order_id IN (
        SELECT t.order_id FROM timer t, a
        WHERE t.answered_over_http AND t.due_at > a.at AND kit.now() > a.at)
    ORDER BY s.order_id FOR UPDATE)
UPDATE timer t SET due_at = t.due_at + (kit.now() - a.at)
FROM a
WHERE t.order_id IN (SELECT order_id FROM locked)
  AND t.answered_over_http AND t.due_at > a.at AND kit.now() > a.at

-- name: enter_slot
INSERT INTO worker (slot, token, at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (slot) DO UPDATE SET token = excluded.token, at = excluded.at

-- name: hold_slot
UPDATE worker SET at = clock_timestamp() WHERE slot = $1 AND token = $2 RETURNING true

-- name: lock_slot
SELECT pg_try_advisory_lock(hashtextextended($1, 0))

-- name: end_slot_holder
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND ((classid::bigint << 32) | objid::bigint) = hashtextextended($1, 0)
