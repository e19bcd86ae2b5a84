"""Invariants of the machinery: audit, outbox, inbox, positions, versions and dead letters."""

from collections import Counter
from collections.abc import Iterable

from schemas import flow
from schemas.flow import SERVICES
from services.commands.invariants import past
from services.commands.invariants.evidence import Evidence, Finding, Seen, finding
from services.kit import audit
from services.kit.relay import lock_class

AUDIT_ROWS = "SELECT count(*) FROM {schema}.audit"
KNOWN = "SELECT event_id::text FROM {schema}.outbox WHERE event_id::text = ANY($1::text[])"
# A relay that lives and beats for a shard whose lock it does not have: two may send at once.
WITHOUT_LOCK = """
SELECT h.shard FROM {schema}.relay_heartbeat h
JOIN pg_stat_activity a ON a.pid = h.pid AND a.backend_start < h.at
WHERE NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.pid = h.pid
      AND l.classid = $1 AND l.objid = h.shard AND l.objsubid = 2
)
"""
TWICE = "SELECT event_id::text FROM {schema}.inbox GROUP BY event_id HAVING count(*) > 1"
# Two equal facts from one cause: the cause took effect twice.
SAME_EFFECT = """
SELECT min(key::text) FROM {schema}.outbox WHERE aggregate_version > 0
GROUP BY causation_id, type, topic, body HAVING count(*) > 1
"""
TIMELINE = "SELECT event_id::text FROM ops.timeline"
# What was pruned counts as if it were there.
VERSIONS = """
WITH facts AS (
    SELECT key, sum(facts) AS facts, max(last) AS last FROM (
        SELECT key, count(*) AS facts, max(aggregate_version) AS last FROM {schema}.outbox
        WHERE aggregate_version > 0 GROUP BY key
        UNION ALL SELECT key, facts, last FROM kit.pruned WHERE service = '{schema}'
    ) parts GROUP BY key
)
SELECT coalesce(s.order_id, f.key)::text
FROM {schema}.state s FULL JOIN facts f ON f.key = s.order_id
WHERE f.facts <> f.last OR coalesce(s.version, 0) <> coalesce(f.last, 0)
"""
NUMBERED = "SELECT count(*) FROM {schema}.outbox WHERE aggregate_version > 0"
PARKED = """
SELECT p.id::text, p.order_id::text, p.topic, p.part, p.record_offset, p.state, p.actor, p.reason,
       s.blocked_by::text AS blocked_by
FROM {schema}.parked p LEFT JOIN {schema}.state s USING (order_id)
"""
# Whoever locks in the one order never waits in a circle; the server counts since its last crash.
DEADLOCKS = """
SELECT deadlocks || ' deadlocks' FROM pg_stat_database
WHERE datname = current_database() AND deadlocks > 0
"""
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


async def audit_unbroken(evidence: Evidence) -> Finding:
    """Every chain of hashes holds from its first row to its head."""
    examined = 0
    wrong: list[str] = []
    for schema in SERVICES:
        examined += await evidence.conn.fetchval(AUDIT_ROWS.format(schema=schema))
        breaks = await audit.verify(evidence.conn, schema)
        wrong += [f"{schema}/{b.partition}#{b.seq} {b.kind}" for b in breaks]
    return finding(examined, wrong)


async def outbox_is_published(evidence: Evidence) -> Finding:
    """Every published row is on its topic, by one sender, and no fact is there of nobody."""
    examined = 0
    wrong: list[str] = []
    accounted = await _dead_places(evidence)
    for schema in SERVICES:
        on_topics = _ids_of(evidence, schema)
        gone = await past.gone(evidence.then, evidence.topics, schema)
        published = evidence.before.published[schema] - (gone - on_topics.keys())
        examined += len(published)
        alone = WITHOUT_LOCK.format(schema=schema)
        rows = await evidence.conn.fetch(alone, lock_class(schema))
        wrong += [f"{schema} sent without its lock: shard {row[0]}" for row in rows]
        wrong += [f"not on its topic: {event}" for event in published - on_topics.keys()]
        # What was published while we looked is in the outbox by now.
        strange = on_topics.keys() - published
        rows = []
        if strange:
            rows = await evidence.conn.fetch(KNOWN.format(schema=schema), list(strange))
        unknown = strange - {row[0] for row in rows}
        wrong += [
            f"written by nobody: {event}" for event in unknown if not on_topics[event] & accounted
        ]
    return finding(examined, wrong)


def _ids_of(evidence: Evidence, schema: str) -> dict[str, set[tuple[str, int, int]]]:
    """Event ids on the topics of one producer, with their places."""
    found: dict[str, set[tuple[str, int, int]]] = {}
    for topic, records in evidence.topics.records.items():
        if _producer(topic) == schema:
            for seen in records:
                if seen.id:
                    place = (topic, seen.part, seen.offset)
                    found.setdefault(seen.id, set()).add(place)
    return found


def _producer(topic: str) -> str:
    first, _, last = topic.partition(".")
    if first == "partner":
        return "ops"
    return first if last in ("events", "replies") else ""


async def _dead_places(evidence: Evidence) -> set[tuple[str, int, int]]:
    """Records that some service laid aside: poison that an outsider put on an inner topic."""
    places: set[tuple[str, int, int]] = set()
    for schema in SERVICES:
        rows = await evidence.conn.fetch(PARKED.format(schema=schema))
        places |= {(r["topic"], r["part"], r["record_offset"]) for r in rows if r["topic"]}
    return places


async def effect_once(evidence: Evidence) -> Finding:
    """No event entered twice, none caused the same fact twice, and the timeline has each once."""
    examined = 0
    wrong: list[str] = []
    for schema in SERVICES:
        inbox = evidence.before.inbox[schema]
        examined += len(inbox)
        rows = await evidence.conn.fetch(TWICE.format(schema=schema))
        wrong += [f"{schema} twice: {row[0]}" for row in rows]
        ids = {seen.inbox_id for _, seen in _inputs(evidence, schema)}
        strange = await past.provable(evidence.then, evidence.topics, schema, inbox - ids)
        wrong += [f"{schema} from nowhere: {event}" for event in strange]
        if schema not in ("ops", "network"):
            rows = await evidence.conn.fetch(SAME_EFFECT.format(schema=schema))
            wrong += [f"{schema} same effect: {row[0]}" for row in rows]
    return finding(examined, wrong + await _missing_in_timeline(evidence))


async def _missing_in_timeline(evidence: Evidence) -> list[str]:
    shown = {row[0] for row in await evidence.conn.fetch(TIMELINE)}
    dead = await _dead_places(evidence)
    traced = {event.TYPE for event in flow.consumed("ops")}
    return [
        f"not in the timeline: {seen.id}"
        for topic, seen in _read(evidence, "ops")
        if seen.type in traced
        and seen.id not in shown
        and (topic, seen.part, seen.offset) not in dead
    ]


async def positions_move_forward(evidence: Evidence) -> Finding:
    """Each position lies behind the last look, and between the committed offset and the end."""
    examined = 0
    wrong: list[str] = []
    for schema in SERVICES:
        committed = evidence.committed.get(schema, {})
        remembered = evidence.remembered.get(schema, {})
        for (topic, part), position in evidence.before.positions[schema].items():
            examined += 1
            name = f"{topic}/{part}"
            epoch = evidence.before.epochs[schema].get((topic, part), 0)
            # Only the tool that raises the epoch may move a position back.
            if [epoch, position] < remembered.get(name, [0, 0]):
                wrong.append(f"{schema} went back: {name}")
            # What Kafka takes for read and was never applied would be lost for ever.
            if position < committed.get((topic, part), 0):
                wrong.append(f"{schema} acked what it did not apply: {name}")
            if position > evidence.ends.get((topic, part), position):
                wrong.append(f"{schema} beyond the end: {name}")
    return finding(examined, wrong)


async def versions_without_holes(evidence: Evidence) -> Finding:
    """The events of each order are numbered 1, 2, 3 … by each service, on the topic too."""
    examined = 0
    wrong: list[str] = []
    for schema in SERVICES:
        examined += await evidence.conn.fetchval(NUMBERED.format(schema=schema))
        rows = await evidence.conn.fetch(VERSIONS.format(schema=schema))
        wrong += [f"{schema}: {row[0]}" for row in rows]
    for order_id, facts in evidence.topics.orders.items():
        last: Counter[str] = Counter()
        for fact in facts:
            if fact.version <= last[fact.service]:
                wrong.append(f"{fact.service} out of order: {order_id}")
            last[fact.service] = fact.version
    return finding(examined, wrong)


async def dead_letters_accounted(evidence: Evidence) -> Finding:
    """Each message read was taken in or laid aside, and each dead letter has its story."""
    examined = 0
    wrong: list[str] = []
    for schema in SERVICES:
        rows = await evidence.conn.fetch(PARKED.format(schema=schema))
        places = {(row["topic"], row["part"], row["record_offset"]) for row in rows}
        inbox = evidence.before.inbox[schema]
        consumed = {event.TYPE for event in flow.consumed(schema)}
        for topic, seen in _read(evidence, schema):
            if not _must_be_taken_in(topic, seen, consumed):
                continue
            examined += 1
            if seen.inbox_id not in inbox and (topic, seen.part, seen.offset) not in places:
                wrong.append(f"{schema} lost {topic}/{seen.part}@{seen.offset}")
        for row in rows:
            examined += 1
            if row["state"] in ("replayed", "discarded") and not (row["actor"] and row["reason"]):
                wrong.append(f"{schema} redriven by nobody: {row['id']}")
            if row["state"] == "parked" and row["order_id"] and row["blocked_by"] is None:
                wrong.append(f"{schema} parked without a block: {row['id']}")
    return finding(examined, wrong)


async def nobody_waits_in_a_circle(evidence: Evidence) -> Finding:
    """Every transaction takes its locks in the same order, so none was ever a deadlock's victim."""
    wrong = [row[0] for row in await evidence.conn.fetch(DEADLOCKS)]
    return finding(await evidence.conn.fetchval(COMMITS), wrong)


def _must_be_taken_in(topic: str, seen: Seen, consumed: set[str]) -> bool:
    return not seen.id or topic.endswith(".intake") or seen.type in consumed


def _inputs(evidence: Evidence, schema: str) -> Iterable[tuple[str, Seen]]:
    for topic in flow.inputs(schema):
        for seen in evidence.topics.records.get(topic, ()):
            yield topic, seen


def _read(evidence: Evidence, schema: str) -> Iterable[tuple[str, Seen]]:
    """The records of its inputs that lie before its positions."""
    positions = evidence.before.positions[schema]
    for topic, seen in _inputs(evidence, schema):
        if seen.offset < positions.get((topic, seen.part), 0):
            yield topic, seen
