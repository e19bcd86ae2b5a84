"""The shell on a real database: what each message does, and what it must not do."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from schemas import claim, dispatch
from schemas.envelope import Headers
from services.commands.invariants.machinery import SAME_EFFECT
from services.kit import audit, clock
from services.kit.calls import CallRow
from services.kit.decision import Actor, CallAnswered, CallOutcome, Decision, Verdict, invalid
from services.kit.handler import GapFound, Shell
from services.kit.ids import new_id
from services.kit.service import Idempotency, Incoming, Source
from services.kit.store import SQL, headers_from
from tests.databases import Database
from tests.integration.kit import toy

pytestmark = pytest.mark.live


async def rows(shell: Shell, sql: str, *args: Any) -> list[asyncpg.Record]:
    """Read what the shell wrote."""
    return await shell.pool.fetch(sql, *args)


async def state_of(shell: Shell, order_id: Any) -> toy.State | None:
    """The stored state, or None."""
    text = await shell.pool.fetchval("SELECT state FROM state WHERE order_id = $1", order_id)
    return toy.State.model_validate_json(text) if text else None


async def test_one_event_has_one_effect_however_often_it_comes(shell: Shell) -> None:
    order_id, event_id = toy.order_in(3), new_id()
    first = toy.record(toy.approved(order_id), 0, event_id=event_id)
    again = toy.record(toy.approved(order_id), 1, event_id=event_id)

    await shell.records([first])
    await shell.records([first])
    await shell.records([again])

    assert await state_of(shell, order_id) == toy.State(approvals=1)
    position = await rows(
        shell, "SELECT next_offset FROM position WHERE part = 3 AND topic = $1", "review.events"
    )
    assert position[0]["next_offset"] == 2


async def test_a_jump_in_offsets_changes_nothing_and_names_the_gap(shell: Shell) -> None:
    order_id = toy.order_in(3)

    with pytest.raises(GapFound) as found:
        await shell.records([toy.record(toy.approved(order_id), 7)])

    assert [(gap.part, gap.next_offset) for gap in found.value.gaps] == [(3, 0)]
    assert await state_of(shell, order_id) is None


async def test_an_early_message_waits_and_what_follows_on_its_topic_waits_behind(
    shell: Shell,
) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.assigned(order_id), 0)])
    await shell.records([toy.record(toy.exhausted(order_id), 1)])
    assert await state_of(shell, order_id) is None

    await shell.records([toy.record(toy.approved(order_id), 0)])

    assert await state_of(shell, order_id) == toy.State(approvals=1, attempts=1, closed=True)
    assert await rows(shell, "SELECT 1 FROM waiting") == []
    out = await rows(shell, "SELECT type, aggregate_version FROM outbox")
    assert [tuple(row) for row in out] == [("claim.OrderClosed", 1)]


async def test_an_early_message_is_parked_after_its_deadline(
    shell: Shell, database: Database
) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.assigned(order_id), 0)])
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, toy.START + timedelta(hours=1))
    await admin.close()

    # Its predecessor may lie unread in a partition that the service lags behind in.
    await shell.park_overdue(frozenset({3}))
    assert await rows(shell, "SELECT 1 FROM parked") == []

    await shell.park_overdue(frozenset({4}))
    parked = await rows(shell, "SELECT state, code FROM parked")
    assert [tuple(row) for row in parked] == [("parked", "early_too_long")]


OPERATOR = Actor(toy.TENANT, "operator", "operations")


async def letters(shell: Shell) -> list[tuple[Any, ...]]:
    """The dead letters with their states, and whether one of them is what blocks its order."""
    sql = "SELECT p.state, p.code, s.blocked_by = p.id FROM parked p JOIN state s USING (order_id)"
    return [tuple(row) for row in await rows(shell, f"{sql} ORDER BY seq")]


async def test_a_letter_that_waits_in_vain_once_more_can_be_redriven_once_more(
    shell: Shell, database: Database
) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.assigned(order_id), 0)])
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, toy.START + timedelta(hours=1))
    await shell.park_overdue()
    letter = await shell.pool.fetchval("SELECT id FROM parked")
    for hours in (2, 3):
        again = await shell.redrive(letter, OPERATOR, "it will come", "replay")
        assert again.verdict is Verdict.EARLY
        await clock.step(admin, toy.START + timedelta(hours=hours))
        await shell.park_overdue()
    assert [row[0] for row in await admin.fetch(SAME_EFFECT.format(schema="claim"))] == []
    await admin.close()

    assert await letters(shell) == [("parked", "early_too_long", True)]
    done = await shell.redrive(letter, OPERATOR, "it never will", "discard")
    assert done.answer == {"state": "discarded"}
    assert await rows(shell, "SELECT 1 FROM state WHERE blocked_by IS NOT NULL") == []


def never_assigned(state: Any, message: Any, now: Any, facts: Any) -> Decision:
    """The toy's rules, but that an assignment is refused as soon as it is not early."""
    if isinstance(message, dispatch.PharmacyAssigned) and state.approvals:
        return invalid("not_so", "the toy refuses this")
    return toy.decide(state, message, now, facts)


async def test_a_letter_that_turns_bad_by_one_behind_it_blocks_what_is_left(shell: Shell) -> None:
    order_id = toy.order_in(3)
    shell.service = replace(shell.service, decide=never_assigned)
    await shell.records([toy.record(toy.approved(order_id, "invalid"), 0)])
    await shell.records([toy.record(toy.assigned(order_id), 0)])
    await shell.records([toy.record(toy.approved(order_id), i) for i in (1, 2)])
    head = await shell.pool.fetchval("SELECT id FROM parked ORDER BY seq LIMIT 1")

    await shell.redrive(head, OPERATOR, "hopeless", "discard")

    assert [(state, blocks) for state, _, blocks in await letters(shell)] == [
        ("discarded", False),
        ("parked", True),
        ("replayed", False),
        ("behind", False),
    ]
    blocks = await shell.pool.fetchval("SELECT blocked_by FROM state")
    await shell.redrive(blocks, OPERATOR, "hopeless too", "discard")
    assert await state_of(shell, order_id) == toy.State(approvals=2)


async def test_a_letter_that_waits_behind_a_younger_one_is_fed_after_it(shell: Shell) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.approved(order_id, "invalid"), 0)])
    await shell.records([toy.record(toy.assigned(order_id), 0)])
    await shell.records([toy.record(toy.approved(order_id, "invalid"), 1)])
    head, waits, last = [row["id"] for row in await rows(shell, "SELECT id FROM parked")]
    await shell.redrive(head, OPERATOR, "hopeless", "discard")
    assert await letters(shell) == [
        ("discarded", "not_so", False),
        ("behind", "order_blocked", False),
        ("parked", "not_so", True),
    ]

    shell.service = replace(shell.service, decide=lambda *_: invalid("never", "nothing is right"))
    done = await shell.redrive(last, OPERATOR, "hopeless too", "discard")

    assert done.answer == {"state": "discarded"}
    assert [(state, blocks) for state, _, blocks in await letters(shell)] == [
        ("discarded", False),
        ("parked", True),
        ("discarded", False),
    ]
    assert await shell.pool.fetchval("SELECT blocked_by FROM state") == waits


async def test_what_waits_for_another_topic_goes_behind_what_blocks_its_order(
    shell: Shell,
) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.assigned(order_id), 0)])
    await shell.records([toy.record(toy.approved(order_id, "invalid"), 0)])
    await shell.records([toy.record(toy.exhausted(order_id), 1)])
    await shell.records([toy.record(toy.approved(order_id), 1)])
    assert await letters(shell) == [
        ("parked", "not_so", True),
        ("behind", "order_blocked", False),
        ("behind", "order_blocked", False),
        ("behind", "order_blocked", False),
    ]

    head = await shell.pool.fetchval("SELECT id FROM parked ORDER BY seq LIMIT 1")
    await shell.redrive(head, OPERATOR, "hopeless", "discard")

    assert await state_of(shell, order_id) == toy.State(approvals=1, attempts=1, closed=True)
    assert await rows(shell, "SELECT 1 FROM waiting") == []


async def test_an_invalid_message_blocks_its_order_alone_until_redriven(shell: Shell) -> None:
    bad, good = toy.order_in(3), toy.order_in(3)
    await shell.records(
        [
            toy.record(toy.approved(bad, "invalid"), 0),
            toy.record(toy.approved(bad), 1),
            toy.record(toy.approved(good), 2),
        ]
    )
    parked = await rows(shell, "SELECT id, state FROM parked ORDER BY seq")
    assert [row["state"] for row in parked] == ["parked", "behind"]
    assert await state_of(shell, good) == toy.State(approvals=1)

    actor = Actor(toy.TENANT, "operator", "operations")
    refused = await shell.redrive(parked[0]["id"], actor, "try again", "replay")
    assert refused.verdict is Verdict.INVALID
    done = await shell.redrive(parked[0]["id"], actor, "hopeless", "discard")

    assert done.answer == {"state": "discarded"}
    assert await state_of(shell, bad) == toy.State(approvals=1)
    states = await rows(shell, "SELECT state, actor FROM parked ORDER BY seq")
    assert [tuple(row) for row in states] == [
        ("discarded", "operations"),
        ("replayed", "operations"),
    ]
    types = await rows(shell, "SELECT type FROM outbox ORDER BY id")
    assert [row["type"] for row in types] == ["claim.MessageParked", "claim.MessageRedriven"]


async def test_a_bug_in_one_message_parks_it_and_spares_the_batch(shell: Shell) -> None:
    orders = [toy.order_in(3) for _ in range(5)]
    batch = [
        toy.record(toy.approved(order_id, "explode" if i == 2 else "rules"), i)
        for i, order_id in enumerate(orders)
    ]

    await shell.records(batch)

    counts = [await state_of(shell, order_id) for order_id in orders]
    assert [state.approvals if state else 0 for state in counts] == [1, 1, 0, 1, 1]
    parked = await rows(shell, "SELECT code, order_id FROM parked")
    assert [tuple(row) for row in parked] == [("shell_error", orders[2])]


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda r: (r.key, b"{not json", r.headers), "bad_body"),
        (lambda r: (r.key, None, r.headers), "bad_body"),
        (lambda r: (r.key, r.value, ()), "bad_envelope"),
        (lambda r: (str(new_id()).encode(), r.value, r.headers), "wrong_place"),
        (lambda r: (r.key, r.value, (*r.headers, ("ce_id", b"\xff\xfe"))), "bad_envelope"),
        (lambda r: (r.key, r.value, (*r.headers, ("ce_x\0", b"\xff\0"))), "bad_envelope"),
        (lambda r: (r.key, r.value, (*r.headers, ("ce_attempt", "²".encode()))), "bad_envelope"),
        (lambda r: (r.key, b"{not json", _of_version(r.headers, 99)), "unknown_type"),
        (lambda r: (r.key, None, _of_version(r.headers, 99)), "unknown_type"),
    ],
)
async def test_poison_is_parked_with_its_cause(shell: Shell, break_it: Any, code: str) -> None:
    whole = toy.record(toy.approved(toy.order_in(3)), 0)
    key, value, headers = break_it(whole)
    poison = type(whole)(whole.topic, whole.part, whole.offset, key, value, headers)

    await shell.records([poison])

    parked = await rows(shell, "SELECT code, state, detail, headers FROM parked")
    assert [(row["code"], row["state"]) for row in parked] == [(code, "parked")]
    assert parked[0]["detail"]
    assert headers_from(parked[0]["headers"]) == tuple(headers)


def _of_version(headers: Headers, version: int) -> Headers:
    schema = f"/schemas/json/review.ReviewApproved.v{version}.json".encode()
    return tuple((n, schema if n == "ce_dataschema" else value) for n, value in headers)


async def test_a_timer_fires_once_and_only_if_it_still_stands(
    shell: Shell, database: Database
) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.approved(order_id, "timer"), 0)])
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, toy.START + timedelta(minutes=5))
    due = await admin.fetch(
        "SELECT t.*, s.tenant_id FROM claim.timer t JOIN claim.state s USING (order_id)"
    )
    await admin.close()

    await shell.timers(due)
    await shell.timers(due)

    assert await state_of(shell, order_id) == toy.State(approvals=1, closed=True)
    assert len(await rows(shell, "SELECT 1 FROM outbox")) == 1


async def test_the_answer_of_an_old_epoch_is_not_taken(shell: Shell) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.approved(order_id, "call"), 0)])
    call = (await rows(shell, "UPDATE call SET state = 'sent', epoch = 2 RETURNING *"))[0]
    answered = CallAnswered("settle", "1", CallOutcome.DONE)

    def leased(epoch: int) -> CallRow:
        return CallRow(call["id"], order_id, toy.TENANT, "settle", "1", {}, epoch, epoch)

    await shell.answer(leased(1), answered)
    assert await state_of(shell, order_id) == toy.State(approvals=1)
    await shell.answer(leased(2), answered)

    assert await state_of(shell, order_id) == toy.State(approvals=1, closed=True)


async def test_an_idempotency_key_gives_the_first_answer_again(shell: Shell) -> None:
    order_id = toy.order_in(3)
    actor = Actor(toy.TENANT, "hospital", "hospital-a")

    def command(request_hash: str) -> Incoming:
        answer = claim.AnswerAsk(order_id=order_id, ask_id=new_id(), answer="yes")
        key = Idempotency(toy.TENANT, "key-1", request_hash)
        return Incoming(new_id(), order_id, toy.TENANT, answer, Source.HTTP, actor, idempotency=key)

    first = (await shell.commands([command("a")]))[0]
    again = (await shell.commands([command("a")]))[0]
    other = (await shell.commands([command("b")]))[0]

    assert first.answer == again.answer == {"approvals": 1}
    assert (other.code, other.status) == ("idempotency_key_reused", 422)
    assert await state_of(shell, order_id) == toy.State(approvals=1)


async def test_a_repetition_in_one_batch_with_the_first_gets_its_answer(shell: Shell) -> None:
    order_id = toy.order_in(3)
    actor = Actor(toy.TENANT, "hospital", "hospital-a")

    def command(request_hash: str) -> Incoming:
        answer = claim.AnswerAsk(order_id=order_id, ask_id=new_id(), answer="yes")
        key = Idempotency(toy.TENANT, "key-1", request_hash)
        return Incoming(new_id(), order_id, toy.TENANT, answer, Source.HTTP, actor, idempotency=key)

    first, again, other = await shell.commands([command("a"), command("a"), command("b")])

    assert first.answer == again.answer == {"approvals": 1}
    assert (other.code, other.status) == ("idempotency_key_reused", 422)
    assert await state_of(shell, order_id) == toy.State(approvals=1)


async def test_every_effect_stands_in_an_unbroken_audit_chain(shell: Shell) -> None:
    orders = [toy.order_in(part) for part in (1, 1, 5)]
    for order_id in orders:
        part = 1 if order_id != orders[2] else 5
        offset = 1 if order_id == orders[1] else 0
        record = toy.record(toy.approved(order_id), offset)
        assert record.part == part
        await shell.records([record])

    async with shell.pool.acquire() as conn:
        breaks = await audit.verify(conn)
    chained = await rows(shell, "SELECT partition, seq FROM audit ORDER BY 1, 2")
    assert [tuple(row) for row in chained] == [(1, 1), (1, 2), (5, 1)]
    assert breaks == []


async def test_timers_are_put_off_behind_who_has_their_orders(
    shell: Shell, database: Database
) -> None:
    orders = sorted((toy.order_in(3), toy.order_in(3)), reverse=True)
    await shell.records([toy.record(toy.approved(o, "timer"), n) for n, o in enumerate(orders)])
    await shell.pool.execute("UPDATE timer SET answered_over_http = true")
    # The timers lie, and fall due, the other way round than orders are locked.
    later = "UPDATE timer SET due_at = due_at + interval '1 s' WHERE order_id = $1"
    await shell.pool.execute(later, orders[1])
    await shell.pool.execute(SQL["keep_alive"])
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, toy.START + timedelta(minutes=1))
    async with shell.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM state ORDER BY order_id FOR UPDATE")
        await other.execute("UPDATE timer SET data = '{}' WHERE order_id = $1", orders[1])
        putting_off = asyncio.create_task(shell.pool.execute(SQL["put_off_timers"]))
        while not await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        await other.execute("UPDATE timer SET data = '{}' WHERE order_id = $1", orders[0])
    await putting_off
    await admin.close()
    due = [row["due_at"] for row in await rows(shell, "SELECT due_at FROM timer ORDER BY due_at")]
    assert due == [toy.START + timedelta(minutes=6, seconds=n) for n in range(2)]


async def test_two_workers_that_begin_at_once_put_timers_off_once(
    shell: Shell, database: Database
) -> None:
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.approved(order_id, "timer"), 0)])
    await shell.pool.execute("UPDATE timer SET answered_over_http = true")
    await shell.pool.execute(SQL["keep_alive"])
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, toy.START + timedelta(minutes=1))
    async with shell.pool.acquire() as first, first.transaction():
        await first.execute(SQL["put_off_timers"])
        second = asyncio.create_task(shell.pool.execute(SQL["put_off_timers"]))
        while not await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        await first.execute(SQL["keep_alive"])
    await second
    await admin.close()
    due = await shell.pool.fetchval("SELECT due_at FROM timer")
    assert due == toy.START + timedelta(minutes=6)
