-- name: save_views
INSERT INTO order_view AS v
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::bool[], $10::int[], $11::uuid[], $12::int[], $13::timestamptz[], $14::timestamptz[],
    $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::bool[],
    $20::timestamptz[], $21::timestamptz[]
)
ON CONFLICT (order_id) DO UPDATE SET
    order_number = excluded.order_number, city = excluded.city, tier = excluded.tier,
    promised_tier = excluded.promised_tier, place = excluded.place, outcome = excluded.outcome,
    late = excluded.late, attempt = excluded.attempt, pharmacy_id = excluded.pharmacy_id,
    parked = excluded.parked, submitted_at = excluded.submitted_at,
    authorised_at = excluded.authorised_at, due_at = excluded.due_at,
    delivered_at = excluded.delivered_at, closed_at = excluded.closed_at,
    updated_at = excluded.updated_at, review_delayed = excluded.review_delayed,
    promised_at = excluded.promised_at, runs_from = excluded.runs_from

-- name: add_timeline
INSERT INTO timeline (order_id, seq, event_id, type, at, topic, part, record_offset, data)
SELECT order_id, seq, event_id, type, at, topic, part, record_offset, data
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::timestamptz[], $6::text[], $7::int[],
            $8::bigint[], $9::json[]) WITH ORDINALITY
     AS u(order_id, seq, event_id, type, at, topic, part, record_offset, data, n)
ORDER BY n

-- name: add_feed
INSERT INTO feed (tenant_id, event_id, entry_type, subject, at, data)
SELECT tenant_id, event_id, entry_type, subject, at, data
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[], $6::json[])
     WITH ORDINALITY AS u(tenant_id, event_id, entry_type, subject, at, data, n)
ORDER BY n

-- name: save_owners
INSERT INTO pharmacy_owner
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])
ON CONFLICT (pharmacy_id) DO UPDATE
SET tenant_id = excluded.tenant_id, city = excluded.city, name = excluded.name

-- name: read_feed
-- Only rows whose transaction is older than every one that still runs: no later commit can come before them.
SELECT xid::text AS xid, number, event_id, entry_type, subject, at, data
FROM feed
WHERE tenant_id = $1 AND (xid, number) > ($2::text::xid8, $3::bigint)
  AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, number LIMIT $4

-- name: read_all
SELECT xid::text AS xid, number, event_id, type AS entry_type, order_id AS subject, at, data
FROM timeline
WHERE (xid, number) > ($1::text::xid8, $2::bigint)
  AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, number LIMIT $3

-- name: feed_begins
SELECT tenant_id, xid::text AS xid, number FROM feed_begins

-- name: feed_end
SELECT xid::text AS xid, number FROM feed
WHERE tenant_id = $1 AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid DESC, number DESC OFFSET $2 LIMIT 1

-- name: all_end
SELECT xid::text AS xid, number FROM timeline
WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid DESC, number DESC OFFSET $1 LIMIT 1

-- name: get_order
SELECT v.tenant_id, v.pharmacy_id, o.name AS pharmacy_name, s.state, s.blocked_by
FROM order_view v JOIN state s USING (order_id) LEFT JOIN pharmacy_owner o USING (pharmacy_id)
WHERE v.order_id = $1 AND ($2::uuid IS NULL OR v.tenant_id = $2)

-- name: get_timeline
SELECT seq, event_id, type, at, topic, part, record_offset, data
FROM timeline WHERE order_id = $1 AND ($2::text[] IS NULL OR type = ANY($2)) ORDER BY seq

-- name: list_orders
SELECT * FROM order_line
WHERE ($1::uuid IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR city = $2)
  AND ($3::text IS NULL OR place = $3)
ORDER BY order_id DESC LIMIT $4

-- name: list_open_orders
-- Those at one place, which are few however many have closed.
SELECT * FROM order_line
WHERE closed_at IS NULL
  AND ($1::uuid IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR city = $2) AND place = $3
ORDER BY order_id DESC LIMIT $4

-- name: list_orders_by_number
SELECT * FROM order_line
WHERE order_number = $5
  AND ($1::uuid IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR city = $2)
  AND ($3::text IS NULL OR place = $3)
ORDER BY order_id DESC LIMIT $4

-- name: at_risk
-- What lies ready for collection waits for the patient: nobody is late with it any more.
SELECT * FROM order_line
WHERE due_at IS NOT NULL AND delivered_at IS NULL AND closed_at IS NULL AND authorised_at IS NOT NULL
  AND (promised_tier = 'pick_up' AND place IN ('released', 'closing')) IS NOT TRUE
  AND ($1::uuid IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR city = $2)
ORDER BY extract(epoch FROM $3::timestamptz - runs_from)
       / greatest(extract(epoch FROM promised_at - runs_from), 1) DESC,
       order_id
LIMIT $4

-- name: counts
-- What is open, and what has closed since.
SELECT place, coalesce(outcome, '') AS outcome, tier, count(*) AS orders,
       count(*) FILTER (WHERE delivered_at IS NOT NULL) AS delivered,
       count(*) FILTER (WHERE delivered_at IS NOT NULL AND NOT late) AS on_time,
       count(*) FILTER (WHERE late OR overdue) AS late,
       count(*) FILTER (WHERE running AND NOT late AND NOT overdue AND used >= $4) AS at_risk,
       count(*) FILTER (WHERE parked > 0) AS parked,
       count(*) FILTER (WHERE review_delayed) AS review_delayed
FROM (
    SELECT place, outcome, tier, delivered_at, late, parked, running, review_delayed,
           coalesce(running AND promised_at <= $3::timestamptz, false) AS overdue,
           coalesce(extract(epoch FROM $3::timestamptz - runs_from)
               / greatest(extract(epoch FROM promised_at - runs_from), 1), 0) AS used
    FROM (
        SELECT place, outcome, tier, delivered_at, late, parked, review_delayed,
               coalesce(runs_from, authorised_at) AS runs_from,
               coalesce(promised_at, due_at) AS promised_at,
               delivered_at IS NULL AND closed_at IS NULL
               AND (promised_tier = 'pick_up' AND place IN ('released', 'closing')) IS NOT TRUE
                   AS running
        FROM order_view
        WHERE (closed_at IS NULL OR closed_at >= $5)
          AND ($1::uuid IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR city = $2)
    ) AS orders
) AS clocks
GROUP BY 1, 2, 3

-- name: blocked_here
-- Orders whose next message ops itself could not take in; the others' dead letters are in the view.
SELECT count(DISTINCT p.order_id)
FROM parked p LEFT JOIN order_view v USING (order_id)
WHERE p.state = 'parked' AND coalesce(v.parked, 0) = 0
  AND ($1::uuid IS NULL OR v.tenant_id = $1) AND ($2::text IS NULL OR v.city = $2)
