"""Invariants of orders: closed once, by the accepted pharmacy, reviewed, scanned and paid."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from schemas.flow import SERVICES
from services.commands.invariants.evidence import CLOSED, Evidence, Fact, Finding, finding
from services.commands.invariants.road import ENDS

# Timers and calls that are so late are nobody's any more; the clock of the system.
OVERDUE_S = 120
# After its expiry an order needs a while until its books are closed.
EXPIRY_GRACE = timedelta(days=1)
# Facts of others after which claim closes the books.
ENDINGS = frozenset(name for names in ENDS.values() for name in names if name[:6] != "claim.")

ALIVE = """
SELECT order_id::text FROM {schema}.timer WHERE order_id = ANY($1::uuid[])
UNION SELECT order_id::text FROM {schema}.call
WHERE order_id = ANY($1::uuid[]) AND state <> 'answered'
UNION SELECT order_id::text FROM {schema}.waiting WHERE order_id = ANY($1::uuid[])
UNION SELECT order_id::text FROM {schema}.parked
WHERE order_id = ANY($1::uuid[]) AND state IN ('parked', 'behind')
UNION SELECT key::text FROM {schema}.outbox JOIN {schema}.outbox_open USING (id)
WHERE key = ANY($1::uuid[])
"""
OVERDUE = """
SELECT 'timer ' || t.order_id AS id FROM {schema}.timer t JOIN {schema}.state s USING (order_id)
WHERE t.due_at < {now} - make_interval(secs => $1) AND s.blocked_by IS NULL
UNION ALL
SELECT 'call ' || order_id FROM {schema}.call
WHERE state <> 'answered' AND next_try_at < {real} - make_interval(secs => $1)
  AND coalesce(lease_until, next_try_at) < {real} - make_interval(secs => $1)
UNION ALL
SELECT 'early ' || order_id FROM {schema}.waiting
WHERE deadline < {now} - make_interval(secs => $1)
UNION ALL
SELECT 'outbox ' || key FROM {schema}.outbox JOIN {schema}.outbox_open USING (id)
WHERE {left}
LIMIT 100
"""
# A relay that is busy or begins anew may leave for a while what was unpublished before the look.
WORKING = {
    "now": "kit.now()",
    "real": "clock_timestamp()",
    "left": "event_id::text = ANY($2::text[]) AND time < kit.now() - make_interval(secs => $1)",
}
# Nobody is late for what fell due after he had stopped: he is asked as of his last sign of life.
AT_REST = {
    "now": "(SELECT at FROM {schema}.alive)",
    "real": "(SELECT max(at) FROM {schema}.worker)",
    "left": "$2::text[] IS NOT NULL AND time < (SELECT at FROM {schema}.alive)"
    " - make_interval(secs => $1)",
}
LAST_MOMENT = "SELECT coalesce((SELECT at FROM claim.alive), kit.now())"


# Its end was told and claim has read it, yet claim neither closed it nor has a hand on it.
LEFT_OPEN = """
SELECT o.order_id::text FROM unnest($1::uuid[]) AS o(order_id)
WHERE NOT EXISTS (SELECT FROM claim.timer t WHERE t.order_id = o.order_id)
  AND NOT EXISTS (
      SELECT FROM claim.call c WHERE c.order_id = o.order_id AND c.state <> 'answered')
  AND NOT EXISTS (SELECT FROM claim.waiting w WHERE w.order_id = o.order_id)
  AND NOT EXISTS (
      SELECT FROM claim.parked p
      WHERE p.order_id = o.order_id AND p.state IN ('parked', 'behind'))
  AND NOT EXISTS (
      SELECT FROM claim.outbox e WHERE e.key = o.order_id AND e.type = 'claim.OrderClosed')
"""


async def closed_once(evidence: Evidence) -> Finding:
    """Every order is closed once, or somebody still has a hand on it."""
    issued = evidence.issued
    closes = Counter(fact.order_id for fact in evidence.topics.of_type(CLOSED))
    wrong = [order_id for order_id, count in closes.items() if count > 1]
    wrong += [order_id for order_id in closes if order_id not in issued]
    open_orders = [o for o, fact in issued.items() if o not in closes and fact.judged]
    alive: set[str] = set()
    for schema in SERVICES:
        rows = await evidence.then.fetch(ALIVE.format(schema=schema), open_orders)
        alive |= {row[0] for row in rows}
    wrong += [order_id for order_id in open_orders if order_id not in alive]
    wrong += await _left_open(evidence, open_orders)
    return finding(len(issued), wrong)


async def _left_open(evidence: Evidence, open_orders: Sequence[str]) -> list[str]:
    """Open orders that have come to an end: their expiry, days away, is no hand on them."""
    read = evidence.before.inbox["claim"]
    ended = {fact.order_id for fact in evidence.topics.of_type(*ENDINGS) if fact.id in read}
    rows = await evidence.then.fetch(LEFT_OPEN, sorted(ended.intersection(open_orders)))
    return [row[0] for row in rows]


async def one_accepted_offer(evidence: Evidence) -> Finding:
    """One assignment an attempt, and only that pharmacy, by its token, confirms and seals."""
    assigned: dict[tuple[str, int], list[str]] = defaultdict(list)
    tokens: dict[tuple[str, int], str] = {}
    for fact in evidence.topics.of_type("dispatch.PharmacyAssigned"):
        assigned[fact.order_id, fact.attempt].append(fact.data["pharmacy_id"])
        tokens[fact.order_id, fact.attempt] = fact.data.get("token_sha256", "")
    wrong = [order for (order, _), pharmacies in assigned.items() if len(pharmacies) > 1]
    examined = len(assigned)
    for fact in evidence.topics.judged("delivery.PharmacyReviewed", "delivery.ParcelSealed"):
        examined += 1
        where = fact.order_id, fact.attempt
        if assigned.get(where, [])[:1] != [fact.data["pharmacy_id"]]:
            wrong.append(fact.order_id)
        # The facts of older versions do not say with which token.
        shown = fact.data.get("token_sha256", "")
        if shown and shown != tokens.get(where, ""):
            wrong.append(fact.order_id)
    return finding(examined, wrong)


async def nothing_overdue(evidence: Evidence) -> Finding:
    """No timer, call, early message or fact is left lying, and no order outlives its expiry."""
    now = await evidence.conn.fetchval(LAST_MOMENT if evidence.at_rest else "SELECT kit.now()")
    clocks = AT_REST if evidence.at_rest else WORKING
    wrong: list[str] = []
    for schema in SERVICES:
        told = {name: sql.format(schema=schema) for name, sql in clocks.items()}
        old = list(evidence.before.unpublished[schema])
        rows = await evidence.conn.fetch(OVERDUE.format(schema=schema, **told), OVERDUE_S, old)
        wrong += [f"{schema}: {row['id']}" for row in rows]
    closed = evidence.closed
    issued = evidence.issued
    for order_id, fact in issued.items():
        expired = fact.data["expires_at"] + EXPIRY_GRACE < now
        if expired and order_id not in closed:
            wrong.append(order_id)
    return finding(len(issued), wrong)


async def reviewed_before_it_left(evidence: Evidence) -> Finding:
    """Each line of a parcel that left is a line of an approved prescription."""
    approved: dict[str, set[str]] = defaultdict(set)
    for fact in evidence.topics.of_type("review.ReviewApproved"):
        passed = set(fact.data["approved"])
        lines = fact.data["lines"]
        approved[fact.order_id] |= {n for n, line in lines.items() if line["sheet"] in passed}
    examined = 0
    wrong: list[str] = []
    for sealed in _left(evidence).values():
        for line in sealed.data["lines"]:
            examined += 1
            if line not in approved[sealed.order_id]:
                wrong.append(sealed.order_id)
    return finding(examined, wrong)


async def scanned_and_paid(evidence: Evidence) -> Finding:
    """Each pack of a parcel that left has a code of its own, and its attempt was settled first."""
    settled = _by_attempt(evidence, "claim.ClaimSettled")
    released = _by_attempt(evidence, "delivery.ParcelReleased")
    assigned = _by_attempt(evidence, "dispatch.PharmacyAssigned")
    returned = _by_attempt(evidence, "delivery.ParcelReturned")
    parcels = _left(evidence)
    wrong = [
        fact.order_id
        for fact in _gone(evidence)
        if not all((fact.order_id, fact.attempt) in known for known in (parcels, settled, released))
    ]
    examined = 0
    sold: dict[str, str] = {}
    for where, sealed in parcels.items():
        codes = [code for line in sealed.data["lines"].values() for code in line]
        examined += len(codes)
        wanted = assigned[where].data["lines"] if where in assigned else {}
        packs = {line: len(codes) for line, codes in sealed.data["lines"].items()}
        if packs != {line: part["quantity"] for line, part in wanted.items()}:
            wrong.append(sealed.order_id)
        # A pack that came back may be sold again.
        if where not in returned:
            wrong += [sealed.order_id for code in codes if code in sold]
            sold |= dict.fromkeys(codes, sealed.order_id)
        if len(set(codes)) < len(codes):
            wrong.append(sealed.order_id)
    return finding(examined, wrong)


def _left(evidence: Evidence) -> Mapping[tuple[str, int], Fact]:
    """The sealed parcels that a courier took, or a patient at the counter."""
    sealed = _by_attempt(evidence, "delivery.ParcelSealed")
    places = [(fact.order_id, fact.attempt) for fact in _gone(evidence)]
    return {where: sealed[where] for where in places if where in sealed}


def _gone(evidence: Evidence) -> list[Fact]:
    """What says that a parcel left its pharmacy."""
    handed = evidence.topics.judged("delivery.ParcelDelivered")
    collected = [fact for fact in handed if fact.data.get("at_counter")]
    return [*evidence.topics.judged("delivery.ParcelPickedUp"), *collected]


def _by_attempt(evidence: Evidence, name: str) -> Mapping[tuple[str, int], Fact]:
    facts: Iterable[Fact] = evidence.topics.of_type(name)
    return {(fact.order_id, fact.attempt): fact for fact in facts}
