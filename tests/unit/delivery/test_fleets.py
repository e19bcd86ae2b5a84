"""Fleets of another make: who is told of what, and the signed requests that tell it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.delivery import domain, ports
from services.delivery.domain.fleets import CANCEL, JOB, FleetsFound
from services.kit.calls import CallUnknown
from services.kit.config import Settings
from services.kit.decision import Call, CallAnswered, CallOutcome, Message, Verdict
from services.kit.spec import NOW, ORDER_ID
from tests.unit.delivery.far import SECRET, Far, far_side
from tests.unit.delivery.story import (
    FLEET,
    OTHER_FLEET,
    OTHER_RIDER,
    PHARMACIST,
    RIDER,
    after,
    assigned,
    confirm,
    courier,
    declined,
    facts,
    give_back,
    pick_up,
    priced,
    seal,
    settled,
)

BOTH = FleetsFound((FLEET, OTHER_FLEET))


def called(found: Any = BOTH) -> tuple[domain.State, tuple[Call, ...]]:
    """A parcel that its pharmacist confirmed, and what is told of it."""
    decision = domain.decide(after(assigned()), confirm(), NOW, facts(PHARMACIST, found))
    state = after(assigned())
    for event in decision.events:
        state = domain.evolve(state, event)
    return state, decision.calls


def told(state: domain.State, message: Message, actor: Any = None) -> list[tuple[str, str]]:
    decision = domain.decide(state, message, NOW, facts(actor))
    assert decision.verdict is Verdict.APPLIED, decision.detail
    return [(call.kind, call.ref) for call in decision.calls]


def test_each_fleet_that_wants_it_hears_of_a_confirmed_parcel_and_of_nobody() -> None:
    _, calls = called()
    assert [(call.kind, call.ref) for call in calls] == [
        (JOB, f"1:{FLEET}"),
        (JOB, f"1:{OTHER_FLEET}"),
    ]
    assert calls[0].request["fleet"] == str(FLEET)
    assert "label" not in str(calls[0].request)
    assert {"order_id", "pharmacy_point", "destination", "due_at"} <= calls[0].request.keys()
    assert called(None)[1] == () == called(FleetsFound(()))[1]


def test_who_was_not_the_first_hears_so_and_the_other_one_of_the_end() -> None:
    state, _ = called()
    assert told(state, courier(), RIDER) == [(CANCEL, f"1:{OTHER_FLEET}")]
    assert told(state, courier(), OTHER_RIDER) == [(CANCEL, f"1:{FLEET}")]
    theirs = after(courier(), start=state)
    assert told(theirs, give_back(), PHARMACIST) == [(CANCEL, f"1:{FLEET}")]


def test_all_who_were_called_hear_of_the_end_at_the_pharmacy_once() -> None:
    state, _ = called()
    both = [(CANCEL, f"1:{FLEET}"), (CANCEL, f"1:{OTHER_FLEET}")]
    assert told(state, give_back(), PHARMACIST) == both
    assert told(state, declined()) == both
    ended = after(give_back(), start=state)
    assert told(ended, declined()) == []
    riding = after(priced(), seal(), settled(), courier(), pick_up(), start=state)
    assert riding.last is not None
    assert riding.last.fleets == (FLEET,)


@pytest.mark.parametrize("outcome", CallOutcome)
def test_what_a_fleet_says_changes_nothing(outcome: CallOutcome) -> None:
    state, (call, _) = called()
    answer = CallAnswered(call.kind, call.ref, outcome, {})
    assert domain.decide(state, answer, NOW, facts()).verdict is Verdict.STALE
    assert told(state, courier(), RIDER) == [(CANCEL, f"1:{OTHER_FLEET}")]


@asynccontextmanager
async def far_fleet(secret: str = SECRET) -> AsyncIterator[tuple[Far, ports.FleetCall]]:
    async with far_side() as far:
        fleet = ports.HttpFleet(far.url, secret)
        try:
            yield far, ports.FleetCall({FLEET: fleet}, JOB)
        finally:
            await fleet.close()


REQUEST = {"fleet": str(FLEET), "order_id": str(ORDER_ID), "attempt": 1}
KEY = f"{ORDER_ID}:{JOB}:1:{FLEET}"


async def test_a_job_is_told_once_under_its_key_and_what_is_unknown_can_be_asked() -> None:
    async with far_fleet() as (far, call):
        assert await call.query(REQUEST, KEY) is None
        far.answers = [500]
        with pytest.raises(CallUnknown):
            await call.send(REQUEST, KEY)
        known = await call.query(REQUEST, KEY)
        assert known is not None
        assert known.outcome is CallOutcome.DONE
        assert (await call.send(REQUEST, KEY)).outcome is CallOutcome.DONE
        assert far.jobs == {KEY: ("/jobs", {"order_id": str(ORDER_ID), "attempt": 1})}
        far.answers = [409]
        assert (await call.send(REQUEST, KEY)).outcome is CallOutcome.REFUSED
        stranger = {**REQUEST, "fleet": str(OTHER_FLEET)}
        assert (await call.send(stranger, KEY)).response == {"code": "no_such_fleet"}


async def test_a_fleet_with_another_secret_does_not_take_us_for_ourselves() -> None:
    async with far_fleet("another-secret-than-theirs") as (far, call):
        with pytest.raises(CallUnknown):
            await call.send(REQUEST, KEY)
        assert (far.heard, far.jobs) == (1, {})


def settings_with(folder: Path, *entries: dict[str, str]) -> Settings:
    tenant = {
        "tenant_id": str(FLEET),
        "name": "fleet-a",
        "kind": "courier",
        "token_sha256": "0" * 64,
    }
    (folder / "tenants.json").write_text(json.dumps({"tenants": [tenant]}))
    (folder / ports.FILE).write_text(json.dumps({"fleets": entries}))
    return Settings(tenants_file=folder / "tenants.json")


def test_a_fleet_is_chosen_by_the_file_and_a_fault_is_named_without_the_secret(
    tmp_path: Path,
) -> None:
    sound = {"tenant": "fleet-a", "url": "http://fleet.example/hook", "secret": SECRET}
    assert list(ports.read(settings_with(tmp_path, sound))) == [FLEET]
    for fault, said in (
        ({**sound, "tenant": "nobody"}, "fleets.0.tenant: no courier fleet"),
        ({**sound, "adapter": "pigeon"}, "no adapter 'pigeon' is installed; there is http"),
        ({**sound, "url": "fleet.example"}, "fleets.0.url"),
    ):
        with pytest.raises(ports.FleetsError, match=said) as caught:
            ports.read(settings_with(tmp_path, fault))
        assert SECRET not in str(caught.value)
    with pytest.raises(ports.FleetsError, match="twice"):
        ports.read(settings_with(tmp_path, sound, sound))
    (tmp_path / ports.FILE).unlink()
    assert ports.read(Settings(tenants_file=tmp_path / "tenants.json")) == {}
