"""Money and stock: what was moved adds up, here and at those who moved it with us."""

from collections.abc import Iterable, Mapping
from typing import Any

from services.commands.invariants.evidence import ISSUED, Evidence, Finding, finding

UNBALANCED = """
SELECT t.order_id::text FROM claim.transfer t LEFT JOIN claim.entry e ON e.transfer_id = t.id
GROUP BY t.id HAVING count(e.*) < 2 OR sum(e.amount_fen) <> 0
"""
TRANSFERS = "SELECT count(*) FROM claim.transfer"
BALANCES = """
SELECT t.order_id::text AS order_id,
       coalesce(sum(e.amount_fen) FILTER (WHERE e.account = 'fund'), 0)::bigint AS fund,
       coalesce(sum(e.amount_fen) FILTER (WHERE e.account = 'personal_account'), 0)::bigint
           AS personal,
       coalesce(sum(e.amount_fen) FILTER (WHERE e.account = 'patient'), 0)::bigint AS patient,
       coalesce(sum(e.amount_fen) FILTER (WHERE e.account = 'pharmacy'), 0)::bigint AS pharmacy,
       coalesce(sum(e.amount_fen) FILTER (WHERE e.account = 'clearing'), 0)::bigint AS clearing,
       coalesce(sum(e.amount_fen)
           FILTER (WHERE t.kind = 'made_good' AND e.account = 'pharmacy'), 0)::bigint AS made_good
FROM claim.transfer t JOIN claim.entry e ON e.transfer_id = t.id
GROUP BY t.order_id
"""
# An undone attempt leaves no account richer or poorer than it was.
UNDONE = """
SELECT DISTINCT t.order_id::text FROM claim.transfer t
JOIN claim.entry e ON e.transfer_id = t.id
WHERE (t.order_id::text, t.attempt) IN (SELECT * FROM unnest($1::text[], $2::int[]))
  AND t.kind NOT IN ('courier_fee', 'compensation', 'payout')
GROUP BY t.order_id, t.attempt, e.account HAVING sum(e.amount_fen) <> 0
"""
# What an undone settlement took of a person's year is given back, and nobody's turn outlives its
# order.
YEARS = """
SELECT u.order_id::text FROM claim.person_use u LEFT JOIN claim.slip_undone s USING (settlement_id)
WHERE (s.settlement_id IS NULL) <> (u.undone_at IS NULL)
UNION SELECT turn::text FROM claim.person WHERE turn::text = ANY($1::text[])
"""
# A shelf that nothing was taken from, and that says so, is not looked at: a country has millions.
STOCK = """
WITH touched AS (
    SELECT pharmacy_id, product_code FROM dispatch.reservation WHERE state IN ('reserved', 'sealed')
    UNION SELECT pharmacy_id, product_code FROM dispatch.stock
    WHERE reserved <> 0 OR sealed_since <> 0
)
SELECT s.pharmacy_id::text || ' ' || s.product_code AS id
FROM touched JOIN dispatch.stock s USING (pharmacy_id, product_code)
LEFT JOIN (
    SELECT pharmacy_id, product_code, sum(qty) AS qty FROM dispatch.reservation
    WHERE state = 'reserved' GROUP BY 1, 2
) r USING (pharmacy_id, product_code)
LEFT JOIN LATERAL (
    SELECT sum(qty) AS qty FROM dispatch.reservation d
    WHERE d.pharmacy_id = s.pharmacy_id AND d.product_code = s.product_code
      AND d.state = 'sealed' AND d.sealed_at >= s.counted_at
) sold ON true
WHERE s.reserved <> coalesce(r.qty, 0) OR s.sealed_since <> coalesce(sold.qty, 0)
"""
# A closed order whose close dispatch has taken in holds nothing back. Two offers may be open at the
# same time, to two pharmacies; an accepted one is alone.
HELD = """
SELECT DISTINCT r.order_id::text FROM dispatch.reservation r
WHERE r.state = 'reserved' AND r.order_id::text = ANY($1::text[])
UNION SELECT order_id::text FROM dispatch.offer WHERE state IN ('open', 'accepted')
GROUP BY order_id
HAVING count(*) > CASE WHEN bool_or(state = 'accepted') THEN 1 ELSE 2 END
    OR count(DISTINCT pharmacy_id) < count(*)
"""
# A slot holds no more orders than the pharmacy ever said it takes; what is given back frees it.
OVERFULL = """
SELECT o.pharmacy_id || ' ' || o.slot AS id
FROM (
    SELECT pharmacy_id, slot, count(*) AS orders FROM dispatch.offer
    WHERE state IN ('open', 'accepted') GROUP BY 1, 2
) o JOIN dispatch.pharmacy p USING (pharmacy_id)
WHERE o.orders > (p.body ->> 'capacity_per_slot')::int AND NOT EXISTS (
    SELECT FROM network.outbox f
    WHERE f.key = o.pharmacy_id AND f.type = 'network.PharmacyChanged'
      AND (convert_from(f.body, 'UTF8')::jsonb #>> '{pharmacy,capacity_per_slot}')::int >= o.orders
)
"""
# The logs know the orders of the last days, and the outboxes those that were not pruned.
ISSUED_ONCE = """
SELECT key::text FROM prescription.outbox WHERE type = $1 AND key::text = ANY($2)
UNION SELECT key::text FROM kit.pruned WHERE service = 'prescription' AND key::text = ANY($2)
"""
RESERVATIONS = "SELECT count(*) FROM dispatch.reservation"
_NOTHING = {"fund": 0, "personal": 0, "patient": 0, "pharmacy": 0, "clearing": 0}


async def money_adds_up(evidence: Evidence) -> Finding:
    """Transfers sum to zero, what was undone is nothing, and all three books agree."""
    conn = evidence.then
    wrong = [row[0] for row in await conn.fetch(UNBALANCED)]
    undone = list(evidence.topics.judged("claim.ClaimUndone"))
    orders, attempts = [f.order_id for f in undone], [f.attempt for f in undone]
    wrong += [row[0] for row in await conn.fetch(UNDONE, orders, attempts)]
    # Who closed after the picture of the tables was taken may have had a turn in it.
    closed = [order_id for order_id, fact in evidence.closed.items() if fact.judged]
    wrong += [row[0] for row in await conn.fetch(YEARS, closed)]
    balances = {row["order_id"]: dict(row) for row in await conn.fetch(BALANCES)}
    wrong += _against_outcomes(evidence, balances)
    different, strangers = _against_others(evidence, balances)
    # Money at another's for an order that never was.
    known = {row[0] for row in await conn.fetch(ISSUED_ONCE, ISSUED, strangers)}
    wrong += [*different, *(order for order in strangers if order not in known)]
    return finding(await conn.fetchval(TRANSFERS), wrong)


def _against_outcomes(evidence: Evidence, balances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A closed order has paid exactly what its last settlement says, or nothing at all."""
    settled = {
        fact.order_id: fact.data["split"]
        for name in ("claim.ClaimSettled", "claim.ClaimReduced")
        for fact in evidence.topics.of_type(name)
    }
    wrong = []
    for order_id, fact in evidence.closed.items():
        if not fact.judged:
            continue
        expected = dict(_NOTHING)
        if fact.data["outcome"] == "delivered":
            split = settled.get(order_id, {})
            expected |= {
                "fund": -split.get("fund_fen", 0),
                "personal": -split.get("account_fen", 0),
                "patient": -split.get("cash_fen", 0),
                "pharmacy": split.get("total_fen", 0),
            }
        balance = balances.get(order_id, _NOTHING)
        # What the platform added for kept lines is not the patient's.
        expected["patient"] += balance.get("made_good", 0)
        if any(balance[account] != fen for account, fen in expected.items()):
            wrong.append(order_id)
    return wrong


def _against_others(
    evidence: Evidence, balances: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Closed orders of which the payer's or the payment provider's books say something else.

    And the orders of which only theirs say something.
    """
    payer = _by_order(evidence.ledgers["payer"], "fund_fen", "account_fen")
    payment = _by_order(evidence.ledgers["payment"], "captured_fen", "held_fen")
    wrong = []
    for order_id, fact in evidence.closed.items():
        balance = balances.get(order_id, _NOTHING)
        ours = (-balance["fund"], -balance["personal"], -balance["patient"], 0)
        theirs = (*payer.pop(order_id, (0, 0)), *payment.pop(order_id, (0, 0)))
        if fact.judged and ours != theirs:
            wrong.append(order_id)
    issued = evidence.issued
    strangers = (order for book in (payer, payment) for order, fen in book.items() if any(fen))
    return wrong, [order for order in strangers if order not in issued]


def _by_order(
    rows: Iterable[Mapping[str, Any]], one: str, other: str
) -> dict[str, tuple[int, int]]:
    return {row["order_ref"]: (row[one], row[other]) for row in rows}


async def stock_adds_up(evidence: Evidence) -> Finding:
    """Reserved is what the reservations say, no slot is overfull, and a closed order holds none."""
    conn = evidence.conn
    wrong = [row[0] for query in (STOCK, OVERFULL) for row in await conn.fetch(query)]
    taken_in = evidence.before.inbox["dispatch"]
    closed = [order_id for order_id, fact in evidence.closed.items() if fact.id in taken_in]
    wrong += [row[0] for row in await conn.fetch(HELD, closed)]
    return finding(await conn.fetchval(RESERVATIONS), wrong)
