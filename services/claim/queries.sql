-- name: add_transfers
INSERT INTO transfer (id, order_id, tenant_id, attempt, kind, at, call_ref, caused_by)
SELECT id, order_id, tenant_id, attempt, kind, $6, call_ref, caused_by
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $7::text[], $8::uuid[])
    AS new (id, order_id, tenant_id, attempt, kind, call_ref, caused_by)

-- name: add_entries
INSERT INTO entry (transfer_id, account, amount_fen)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])

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
FROM dispute_open JOIN state USING (order_id)
ORDER BY order_id LIMIT 1000;

-- name: disputes_begin
INSERT INTO dispute_open SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING

-- name: disputes_end
DELETE FROM dispute_open WHERE order_id = ANY($1::uuid[])

-- name: add_slips
WITH new AS (
    INSERT INTO slip
    SELECT * FROM jsonb_populate_recordset(NULL::slip, $1::jsonb)
    ON CONFLICT DO NOTHING RETURNING settlement_id
)
INSERT INTO sale_due SELECT settlement_id, false FROM new ON CONFLICT DO NOTHING;

-- name: undo_slips
WITH gone AS (
    INSERT INTO slip_undone
    SELECT settlement_id, $2 FROM slip WHERE settlement_id = ANY($1::text[])
    ON CONFLICT DO NOTHING RETURNING settlement_id
)
INSERT INTO sale_due SELECT settlement_id, true FROM gone ON CONFLICT DO NOTHING;

-- name: add_invoices
INSERT INTO invoice
SELECT * FROM jsonb_populate_recordset(NULL::invoice, $1::jsonb)
ON CONFLICT DO NOTHING;

-- name: redden_invoices
INSERT INTO invoice
SELECT 'R' || substr(number, 2), order_id, tenant_id, attempt, true, -total_fen, -fund_fen,
       -account_fen, -cash_fen, $3
FROM invoice
JOIN unnest($1::uuid[], $2::int[]) AS gone (of_order, of_attempt)
    ON order_id = of_order AND attempt = of_attempt
WHERE NOT red
ON CONFLICT DO NOTHING;

-- name: load_invoices
SELECT number, attempt, red, total_fen, fund_fen, account_fen, cash_fen, issued_at
FROM invoice WHERE order_id = $1 ORDER BY issued_at, red;

-- name: load_slips
SELECT s.settlement_id, s.attempt, s.insutype, s.clr_type, s.msgid, s.settled_at, s.total_fen,
       s.fund_fen, s.account_fen, s.cash_fen, u.at AS undone_at
FROM slip s LEFT JOIN slip_undone u USING (settlement_id)
WHERE s.order_id = $1 ORDER BY s.settled_at;

-- name: slips_of_day
SELECT s.* FROM slip s LEFT JOIN slip_undone u USING (settlement_id)
WHERE s.settled_at >= $1 AND s.settled_at < $2 AND u.settlement_id IS NULL
ORDER BY s.payer_area, s.settlement_id;

-- name: patients_of_orders
-- What rests in `clearing` is held, not captured; who has all of it back has paid nothing.
SELECT t.order_id::text AS order_id, -sum(e.amount_fen)::bigint AS captured_fen
FROM transfer t JOIN entry e ON e.transfer_id = t.id
WHERE e.account IN ('patient', 'clearing') AND t.order_id = ANY($1::uuid[])
GROUP BY t.order_id
HAVING sum(e.amount_fen) FILTER (WHERE e.account = 'patient') <> 0;

-- name: known_groups
SELECT DISTINCT insutype, clr_type, clr_optins, left(payer_area, 4) || '00' AS area FROM slip;

-- name: meet_persons
INSERT INTO person (person) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING;

-- name: lock_persons
SELECT person, balance_before_fen, balance_taken_fen,
       CASE WHEN turn_until > clock_timestamp() THEN turn END AS holder
FROM person WHERE person = ANY($1::text[]) ORDER BY person FOR UPDATE;

-- name: see_persons
SELECT person, balance_before_fen, balance_taken_fen,
       CASE WHEN turn_until > clock_timestamp() THEN turn END AS holder
FROM person WHERE person = ANY($1::text[]) ORDER BY person;

-- name: load_years
SELECT person, year, figures::text AS figures FROM person_year WHERE person = ANY($1::text[]);

-- name: load_year
SELECT figures::text FROM person_year WHERE person = $1 AND year = $2;

-- name: put_year
INSERT INTO person_year VALUES ($1, $2, $3::jsonb)
ON CONFLICT (person, year) DO UPDATE SET figures = excluded.figures;

-- name: put_balance
UPDATE person SET balance_before_fen = $2, balance_taken_fen = $3 WHERE person = $1;

-- name: add_uses
-- Each of another person; what is known already moves nothing again.
WITH told AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::uuid[], $5::jsonb[], $6::jsonb[],
                         $7::bigint[], $8::bigint[])
        AS u (settlement_id, person, year, order_id, uses, figures, before_fen, taken_fen)
), new AS (
    INSERT INTO person_use (settlement_id, person, year, order_id, uses)
    SELECT settlement_id, person, year, order_id, uses FROM told
    ON CONFLICT DO NOTHING RETURNING settlement_id
), years AS (
    INSERT INTO person_year SELECT person, year, figures FROM told JOIN new USING (settlement_id)
    ON CONFLICT (person, year) DO UPDATE SET figures = excluded.figures
)
UPDATE person p SET balance_before_fen = t.before_fen, balance_taken_fen = t.taken_fen
FROM told t JOIN new USING (settlement_id) WHERE p.person = t.person;

-- name: undo_use
UPDATE person_use SET undone_at = $2 WHERE settlement_id = $1 AND undone_at IS NULL
RETURNING person, year, uses::text AS uses;

-- name: take_turns
UPDATE person SET turn = u.order_id, turn_until = clock_timestamp() + make_interval(secs => $3)
FROM unnest($1::text[], $2::uuid[]) AS u (name, order_id) WHERE person = u.name

-- name: leave_turns
-- Not of those whose turn another order takes in the same statement.
UPDATE person SET turn = NULL, turn_until = NULL
WHERE person = ANY($1::text[]) AND turn = ANY($2::uuid[]) AND person <> ALL($3::text[])

-- name: orders_of_day
SELECT DISTINCT order_id::text AS order_id FROM transfer
WHERE at >= $1 AND at < $2 AND kind <> 'payout';

-- name: slips_known
SELECT s.*, u.settlement_id IS NOT NULL AS undone
FROM slip s LEFT JOIN slip_undone u USING (settlement_id)
WHERE s.settlement_id = ANY($1::text[]);

-- name: in_flight
SELECT EXISTS (SELECT FROM state WHERE order_id = $1 AND state ->> 'phase' <> 'closed');

-- name: settle_call
SELECT ref, request::text AS request FROM call
WHERE order_id = $1 AND kind = 'settle' AND response::jsonb ->> 'msgid' = $2;

-- name: replace_slip
WITH new AS (
    INSERT INTO slip
    SELECT $1, order_id, tenant_id, attempt, payer_area, insutype, clr_type, clr_optins, visit_id,
           $2, settled_at, total_fen, fund_fen, account_fen, cash_fen
    FROM slip WHERE settlement_id = $3
    ON CONFLICT DO NOTHING RETURNING settlement_id
), gone AS (
    INSERT INTO slip_undone VALUES ($3, $4) ON CONFLICT DO NOTHING RETURNING settlement_id
)
INSERT INTO sale_due
SELECT settlement_id, false FROM new UNION ALL SELECT settlement_id, true FROM gone
ON CONFLICT DO NOTHING;

-- name: propose_write_off
INSERT INTO write_off (settlement_id, proposed_by, reason, proposed_at)
VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT DO NOTHING RETURNING settlement_id;

-- name: see_write_off
SELECT proposed_by, approved_by FROM write_off WHERE settlement_id = $1;

-- name: approve_write_off
UPDATE write_off SET approved_by = $2, approved_reason = $3, approved_at = clock_timestamp()
WHERE settlement_id = $1 AND approved_by IS NULL AND proposed_by <> $2;

-- name: written_off
SELECT settlement_id, proposed_by, approved_by, reason FROM write_off
WHERE settlement_id = ANY($1::text[]) AND approved_by IS NOT NULL;

-- name: sales_due
SELECT s.settlement_id, s.order_id, s.payer_area, s.clr_type, d.back, c.request::text AS request,
       t.refusal = '' AS was_told, u.settlement_id IS NOT NULL AS undone
FROM sale_due d
JOIN slip s USING (settlement_id)
LEFT JOIN slip_undone u USING (settlement_id)
LEFT JOIN sale_told t ON t.settlement_id = d.settlement_id AND NOT t.back
-- One that was settled again has no call of its own; the one it repeats says what was sold.
LEFT JOIN LATERAL (
    SELECT request FROM call
    WHERE order_id = s.order_id AND kind = 'settle'
    ORDER BY coalesce(response::jsonb ->> 'msgid' = s.msgid, false) DESC, id DESC LIMIT 1
) c ON true
WHERE s.payer_area <> ALL($2::text[])
ORDER BY d.settlement_id, d.back LIMIT $1;

-- name: sale_is_told
WITH gone AS (
    DELETE FROM sale_due WHERE settlement_id = $1 AND back = $2 RETURNING settlement_id, back
)
INSERT INTO sale_told SELECT settlement_id, back, clock_timestamp(), $3 FROM gone
ON CONFLICT DO NOTHING;

-- name: payers_away
SELECT area, h.* FROM payer_away,
    jsonb_to_recordset(hours)
        AS h (begins time, ends time, effective_from date, effective_to date)
ORDER BY area, h.begins;

-- name: put_away
INSERT INTO payer_away (city, area, hours) VALUES ($1, $2, $3::jsonb)
ON CONFLICT (city) DO UPDATE SET area = excluded.area, hours = excluded.hours;

-- name: drop_away
DELETE FROM payer_away WHERE city = $1;

-- name: add_rides
INSERT INTO ride (order_id, attempt, fleet)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[]) ON CONFLICT DO NOTHING

-- name: not_paid_out
SELECT t.id FROM transfer t JOIN entry e ON e.transfer_id = t.id AND e.account = $2
LEFT JOIN ride r USING (order_id, attempt)
WHERE t.kind = $1 AND t.at >= $3 AND t.at < $4 AND ($5::uuid IS NULL OR r.fleet = $5)
  AND NOT EXISTS (SELECT FROM payout_line l WHERE l.earned = t.id)
ORDER BY t.id;

-- name: pay_out
WITH line AS (
    SELECT l.earned, l.paid, e.amount_fen
    FROM unnest($7::uuid[], $8::uuid[]) AS l (earned, paid)
    JOIN entry e ON e.transfer_id = l.earned AND e.account = $2
), record AS (
    INSERT INTO payout (number, account, first, last, person, at, count, fen, fleet)
    SELECT $1, $2, $3, $4, $5, $6, count(*), sum(amount_fen), $9 FROM line
    RETURNING count, fen
), moved AS (
    INSERT INTO transfer (id, order_id, tenant_id, attempt, kind, at, call_ref, caused_by)
    SELECT l.paid, t.order_id, t.tenant_id, t.attempt, 'payout', $6, $1::uuid::text, t.caused_by
    FROM line l JOIN transfer t ON t.id = l.earned
), booked AS (
    INSERT INTO entry (transfer_id, account, amount_fen)
    SELECT paid, $2, -amount_fen FROM line
    UNION ALL SELECT paid, 'paid_out', amount_fen FROM line
), listed AS (
    INSERT INTO payout_line (earned, number, paid) SELECT earned, $1, paid FROM line
)
SELECT count, fen FROM record;

-- name: payouts
SELECT number, account, first, last, person, count, fen, at, fleet
FROM payout ORDER BY number DESC LIMIT 100;

-- name: payout_lines
SELECT t.order_id, t.attempt, e.amount_fen AS fen, t.at AS earned_at, t.caused_by,
       l.earned, l.paid, CASE WHEN t.kind = 'courier_fee' THEN r.fleet END AS fleet
FROM payout_line l
JOIN transfer t ON t.id = l.earned
LEFT JOIN ride r USING (order_id, attempt)
JOIN entry e ON e.transfer_id = t.id AND e.amount_fen > 0
WHERE l.number = $1 ORDER BY t.id;
