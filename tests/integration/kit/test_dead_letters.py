"""Dead letters over HTTP on a real database: found, corrected, fed again, and all of it audited."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from services.kit import audit, dead_letters
from services.kit.config import Settings
from services.kit.handler import Shell
from services.kit.http import Gather, Inside, create_app
from services.kit.ids import new_id
from services.local.instance import Instance
from tests.integration.kit import toy

pytestmark = pytest.mark.live

LETTERS = "/v1/dlq"
WHY = {"reason": "mended by hand"}


@pytest.fixture
async def desk(shell: Shell, infra: Instance) -> AsyncIterator[httpx.AsyncClient]:
    """The routes of a service, asked by operations."""
    app = create_app("claim", [dead_letters.router])
    gather = Gather(shell)
    app.state.inside = Inside(Settings(), shell, gather, shell.tenants, shell.vault, None)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://claim",
        headers={"Authorization": f"Bearer {infra.token('operations')}"},
    ) as client:
        yield client


async def letters(desk: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await desk.get(LETTERS, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["messages"]
    assert answer.json()["total"] == len(found)
    return found


def at(letter: dict[str, Any], action: str = "") -> str:
    return f"{LETTERS}/{letter['id']}" + (f"/{action}" if action else "")


async def approvals(shell: Shell, order_id: UUID) -> int:
    query = "SELECT state ->> 'approvals' FROM state WHERE order_id = $1"
    return int(await shell.pool.fetchval(query, order_id) or 0)


async def audited(shell: Shell) -> list[tuple[str, str]]:
    rows = await shell.pool.fetch("SELECT action, actor FROM audit WHERE action LIKE 'dlq.%'")
    async with shell.pool.acquire() as conn:
        assert await audit.verify(conn) == []
    return sorted((row["action"], row["actor"]) for row in rows)


async def test_a_corrected_letter_is_checked_stored_beside_and_fed(
    shell: Shell, desk: httpx.AsyncClient
) -> None:
    order_id = toy.order_in(3)
    sound = toy.record(toy.approved(order_id), 0)
    broken = {**orjson.loads(sound.value or b""), "rule_pack": 7}
    await shell.records([replace(sound, value=orjson.dumps(broken))])
    (letter,) = await letters(desk, code="bad_body", order=str(order_id))

    refused = await desk.post(at(letter, "edit"), json={"set": {"rule_pack": []}, **WHY})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_body")
    assert refused.json()["errors"][0]["field"] == "rule_pack"
    taken = await desk.post(at(letter, "edit"), json={"set": {"rule_pack": "toy"}, **WHY})
    assert taken.json() == {"correction": 1}

    shown = (await desk.get(at(letter))).json()
    assert orjson.loads(shown["body"])["rule_pack"] == 7
    assert orjson.loads(shown["corrected"][0]["body"])["rule_pack"] == "toy"
    assert (await desk.post(at(letter, "replay"), json=WHY)).json()["verdict"] == "applied"
    assert await approvals(shell, order_id) == 1
    assert await letters(desk, state="parked") == []
    assert await audited(shell) == [("dlq.edit", "operations"), ("dlq.replay", "operations")]
    again = await desk.post(at(letter, "replay"), json=WHY)
    assert (again.status_code, again.json()["code"]) == (409, "not_parked")


async def test_a_record_without_key_or_envelope_can_be_completed(
    shell: Shell, desk: httpx.AsyncClient
) -> None:
    order_id, event_id = toy.order_in(0), new_id()
    sound = toy.record(toy.approved(order_id), 0, event_id=event_id)
    headers = tuple(pair for pair in sound.headers if pair[0] != "ce_time")
    await shell.records([replace(sound, key=None, headers=headers)])
    (letter,) = await letters(desk)
    assert (letter["code"], letter["order_id"]) == ("bad_envelope", None)

    added = {"headers": {"ce_time": "2026-03-02T09:00:00Z"}, "key": str(order_id), **WHY}
    assert (await desk.post(at(letter, "edit"), json=added)).status_code == 200
    assert (await desk.post(at(letter, "replay"), json=WHY)).status_code == 200
    assert await approvals(shell, order_id) == 1
    await shell.records([toy.record(toy.approved(order_id), 1, event_id=event_id)])
    assert await approvals(shell, order_id) == 1


async def test_an_event_that_came_again_whole_is_not_applied_from_its_letter(
    shell: Shell, desk: httpx.AsyncClient
) -> None:
    order_id = toy.order_in(0)
    sound = toy.record(toy.approved(order_id), 1)
    await shell.records([replace(sound, offset=0, key=None, headers=()), sound])
    (letter,) = await letters(desk)
    restored = {name: value.decode() for name, value in sound.headers}
    changes = {"headers": restored, "key": str(order_id), **WHY}
    assert (await desk.post(at(letter, "edit"), json=changes)).status_code == 200
    assert (await desk.post(at(letter, "replay"), json=WHY)).json()["verdict"] == "stale"
    assert await approvals(shell, order_id) == 1


async def test_a_letter_that_the_domain_raises_on_stays_and_the_next_one_blocks(
    shell: Shell, desk: httpx.AsyncClient
) -> None:
    order_id = toy.order_in(3)
    reactions = ("invalid", "rules", "explode", "rules")
    await shell.records(
        [toy.record(toy.approved(order_id, name), i) for i, name in enumerate(reactions)]
    )
    head = (await letters(desk, state="parked"))[0]
    assert (await desk.post(at(head, "discard"), json=WHY)).status_code == 200
    assert await approvals(shell, order_id) == 1
    (head,) = await letters(desk, state="parked")
    assert (head["code"], head["actor"]) == ("shell_error", "")
    refused = await desk.post(at(head, "replay"), json=WHY)
    assert (refused.status_code, refused.json()["code"]) == (422, "shell_error")
    assert await audited(shell) == [
        ("dlq.discard", "operations"),
        ("dlq.replay_refused", "operations"),
    ]
    assert (await desk.post(at(head, "discard"), json=WHY)).status_code == 200
    assert await approvals(shell, order_id) == 2


async def test_letters_are_found_by_what_they_have_in_common(
    shell: Shell, desk: httpx.AsyncClient
) -> None:
    orders = [toy.order_in(3) for _ in range(3)]
    batch = [toy.record(toy.approved(order, "invalid"), i) for i, order in enumerate(orders)]
    await shell.records([*batch, toy.record(toy.approved(orders[0]), 3)])
    assert len(await letters(desk, code="not_so")) == 3
    assert len(await letters(desk, order=str(orders[0]))) == 2
    assert len(await letters(desk, state="behind", type="review.ReviewApproved")) == 1
    assert await letters(desk, older_s=60) == []
    assert await letters(desk, code="other") == []
    page = (await desk.get(LETTERS, params={"limit": 3})).json()
    assert (len(page["messages"]), page["total"]) == (3, 4)
    rest = (await desk.get(LETTERS, params={"before": page["messages"][-1]["seq"]})).json()
    assert [row["seq"] for row in rest["messages"]] == [page["messages"][-1]["seq"] - 1]


async def test_strangers_and_other_partners_see_no_letters(desk: httpx.AsyncClient) -> None:
    hospital = {"Authorization": "Bearer nobody"}
    assert (await desk.get(LETTERS, headers=hospital)).status_code == 401
    assert (await desk.get(f"{LETTERS}/{new_id()}")).json()["code"] == "not_found"
    nothing = await desk.post(f"{LETTERS}/{new_id()}/edit", json=WHY)
    assert (nothing.status_code, nothing.json()["code"]) == (422, "nothing_changed")
