"""The doctor's queries on real tables: each trouble is laid there, and seen."""

import asyncpg
import pytest

from services.commands.diagnosis import ProcessLook, Snapshot, diagnose
from services.commands.examination import look_at_tables
from services.kit.ids import new_id
from services.local.instance import Instance
from tests.databases import Database

pytestmark = pytest.mark.live

ONE, TWO = new_id(), new_id()
TROUBLE = f"""
INSERT INTO state (order_id, tenant_id, blocked_by)
VALUES ('{ONE}', '{ONE}', '{ONE}'), ('{TWO}', '{TWO}', NULL);
INSERT INTO parked
    (id, order_id, message_type, source, headers, code, detail, state, first_at, last_at)
SELECT '{ONE}', '{ONE}', 'claim.X', 'record', '[]', 'bad_body', 'x', 'parked', at, at FROM ago;
INSERT INTO timer (order_id, kind, ref, due_at)
SELECT id::uuid, 'again', '', at FROM ago, unnest(ARRAY['{ONE}', '{TWO}']) AS id;
INSERT INTO waiting
    (order_id, tenant_id, event_id, topic, part, record_offset, headers, since, deadline)
SELECT '{TWO}', '{TWO}', '{TWO}', 'review.events', 0, 0, '[]', at, at FROM ago;
INSERT INTO call
    (order_id, tenant_id, kind, ref, request, request_hash, state, attempts, next_try_at, outcome)
SELECT id::uuid, id::uuid, kind, ref, '{{}}', '', state, 4, at, outcome FROM ago, (VALUES
    ('{TWO}', 'settle', '1', 'sent', NULL),
    ('{TWO}', 'hold', '1', 'answered', 'unknown'), ('{TWO}', 'hold', '2', 'answered', 'unknown'),
    ('{ONE}', 'hold', '1', 'answered', 'unknown'), ('{ONE}', 'hold', '2', 'answered', 'unknown'),
    ('{ONE}', 'hold', '3', 'answered', 'done'),
    ('{TWO}', 'presettle', '1', 'answered', 'refused'),
    ('{TWO}', 'presettle', '2', 'answered', 'refused'),
    ('{TWO}', 'undo', '1', 'answered', 'refused'), ('{TWO}', 'undo', '2', 'answered', 'refused'),
    ('{ONE}', 'undo', '1', 'answered', 'refused'), ('{ONE}', 'undo', '2', 'answered', 'refused'),
    ('{ONE}', 'undo', '3', 'answered', 'done')) AS calls(id, kind, ref, state, outcome);
INSERT INTO outbox
    (shard, topic, key, event_id, type, version, aggregate_version, tenant_id, time, body)
SELECT 3, 'claim.events', '{ONE}', '{ONE}', 'claim.X', 1, 1, '{ONE}', at, '' FROM ago;
INSERT INTO relay_heartbeat SELECT 3, 1, at FROM ago;
INSERT INTO worker SELECT 0, '{ONE}', at FROM ago;
INSERT INTO dispatch.city_lease SELECT '310000', '{ONE}', 1, at FROM ago;
INSERT INTO dispatch.state (order_id, tenant_id) VALUES ('{TWO}', '{TWO}');
INSERT INTO dispatch.timer (order_id, kind, ref, due_at)
SELECT '{TWO}', 'match', '310000', at FROM ago;
"""


async def test_each_trouble_is_seen(database: Database, infra: Instance) -> None:
    conn = await asyncpg.connect(database.dsn())
    empty = Snapshot("/home", 1, processes=(ProcessLook("claim", 2, ready=True),))
    try:
        clean = await look_at_tables(conn, infra, empty)
        assert diagnose(clean) == []
        await conn.execute("SET search_path = claim")
        await conn.execute("CREATE TEMP VIEW ago AS SELECT now() - interval '1 hour' AS at")
        await conn.execute(TROUBLE)
        look = await look_at_tables(conn, infra, empty)
        assert sorted((finding.code, finding.subject) for finding in diagnose(look)) == [
            ("calls_abandoned", "claim"),
            ("early_too_long", "claim"),
            ("lease_dead", "dispatch"),
            ("orders_blocked", "claim"),
            ("outcome_unknown", "claim"),
            ("outcome_unknown", "claim"),
            ("refused_again", "claim"),
            ("relay_stuck", "claim"),
            ("timers_overdue", "claim"),
            ("timers_overdue", "dispatch"),
            ("worker_silent", "claim"),
        ]
        claim = next(service for service in look.services if service.name == "claim")
        doubtful = {calls.kind: calls.doubtful for calls in claim.calls if calls.doubtful}
        assert doubtful == {"hold": 1, "settle": 1}
        assert {calls.kind: calls.refused for calls in claim.calls if calls.refused} == {"undo": 1}
        # That of the blocked order waits for a person, not for time.
        assert claim.overdue["again"][0] == 1
    finally:
        await conn.close()
