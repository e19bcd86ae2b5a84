"""The line for drugs that nobody had: asked once and in turn, packs kept for one alone."""

from collections import Counter

from services.commands.invariants.evidence import Evidence, Finding, finding

STOCK_APPEARED = "stock_appeared"
# What is kept is what the line says, and only for who was asked and has not ordered elsewhere.
HELD = """
SELECT s.pharmacy_id::text || ' ' || s.product_code AS id
FROM dispatch.stock s
FULL JOIN (
    SELECT pharmacy_id, product_code, sum(qty) AS qty FROM dispatch.shortage_hold GROUP BY 1, 2
) h USING (pharmacy_id, product_code)
WHERE coalesce(s.held, 0) <> coalesce(h.qty, 0)
UNION ALL
SELECT h.order_id::text FROM dispatch.shortage_hold h JOIN dispatch.shortage w USING (order_id)
WHERE w.state NOT IN ('asked', 'kept', 'ordered')
"""
# Asked before somebody who stood further ahead, wanted no more of the same and may buy there too.
PASSED_OVER = """
SELECT ahead.order_id::text
FROM dispatch.shortage asked
JOIN dispatch.shortage ahead ON ahead.city = asked.city AND ahead.position < asked.position
WHERE asked.state = 'asked' AND ahead.state = 'waiting'
    AND ahead.registered_at < asked.asked_at - interval '1 minute'
    AND ahead.insured <= asked.insured AND ahead.cold <= asked.cold
    AND ahead.controlled <@ asked.controlled
    AND NOT EXISTS (
        SELECT FROM dispatch.shortage_line wants
        WHERE wants.order_id = ahead.order_id AND NOT EXISTS (
            SELECT FROM dispatch.shortage_line gets
            WHERE gets.order_id = asked.order_id AND gets.products @> wants.products
                AND gets.products <@ wants.products
                AND gets.quantity >= wants.quantity
        )
    )
    AND (SELECT count(*) = count(DISTINCT drug) FROM dispatch.shortage_line
         WHERE order_id = ahead.order_id)
"""
# A place is that of the one it was taken from, and an order takes one place at most.
MOVED = """
SELECT later.order_id::text
FROM dispatch.shortage earlier
JOIN dispatch.shortage later ON later.order_id = earlier.ordered_by
WHERE later.position <> earlier.position OR later.tenant_id <> earlier.tenant_id
"""
PLACES = "SELECT order_id::text FROM dispatch.shortage"


async def everybody_has_a_place(evidence: Evidence) -> Finding:
    """Who was registered stands in the line once, is asked once and in turn, and keeps the place.

    Examined are all orders: that most of them have no place is a finding as well.
    """
    facts = [*evidence.topics.judged("dispatch.ShortageRegistered")]
    registered = Counter(fact.order_id for fact in facts)
    wrong = [order_id for order_id, times in registered.items() if times > 1]
    places = {row[0] for row in await evidence.conn.fetch(PLACES)}
    wrong += [order_id for order_id in registered if order_id not in places]
    asked = Counter(
        fact.order_id
        for fact in evidence.topics.of_type("dispatch.PatientAsked")
        if fact.data.get("kind") == STOCK_APPEARED
    )
    wrong += [order_id for order_id, times in asked.items() if times > 1]
    known = {fact.order_id for fact in evidence.topics.of_type("dispatch.ShortageRegistered")}
    wrong += [order_id for order_id in asked if order_id not in known]
    for query in (HELD, PASSED_OVER, MOVED):
        wrong += [row[0] for row in await evidence.conn.fetch(query)]
    return finding(len(evidence.issued), wrong)
