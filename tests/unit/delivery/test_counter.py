"""A parcel that the patient collects: no courier, a code at the counter, an end by the clock."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from schemas import delivery
from schemas.delivery import ParcelDelivered, ParcelReturned, PromiseBroken, ReturnReason
from schemas.values import CancelResult, Outcome, Stage, Tier
from services.delivery import domain, view
from services.delivery.domain.counter import WrongCodes, counted
from services.delivery.domain.fleets import FleetsFound
from services.delivery.domain.policy import SEAL_WITHIN, WRONG_CODES_MAX, WRONG_CODES_PAUSE
from services.delivery.domain.state import Closed
from services.kit.decision import Actor, DropTimer, Message, SetTimer
from services.kit.spec import NOW, Given
from services.kit.spec import Outcome as Result
from tests.unit.delivery.story import (
    COUNTER_CODE,
    FIRST,
    FLEET,
    LINE_A,
    PHARMACIST,
    RIDER,
    SECOND,
    STRANGER,
    actor_of,
    after,
    assigned,
    closed,
    confirm,
    courier,
    declined,
    facts,
    forwarded,
    give_back,
    hand_out,
    priced,
    seal,
    settled,
    timer,
)

READY = NOW + timedelta(minutes=40)
UNTIL = READY + timedelta(hours=2)
TOLD = assigned(due_at=UNTIL, tier=Tier.PICK_UP, not_before=READY)
_SEALED: tuple[Message, ...] = (TOLD, confirm(), priced(), seal())
STATES = {
    "assigned": after(TOLD),
    "confirmed": after(TOLD, confirm()),
    "sealed": after(*_SEALED),
    "released": after(*_SEALED, settled()),
    "collected": after(*_SEALED, settled(), hand_out()),
    "left": after(*_SEALED, settled(), timer("pick_up", due_at=UNTIL)),
    "let_go": after(*_SEALED, declined()),
    "given back": after(TOLD, confirm(), give_back()),
}


def check(state: str, message: Message, now: datetime = NOW, actor: Actor | None = None) -> Result:
    sender = actor or actor_of(message)
    return Given(domain, STATES[state]).when(message, now=now, facts=facts(sender))


def test_nobody_is_called_to_carry_it() -> None:
    called = facts(PHARMACIST, FleetsFound((FLEET,)))
    confirmed = Given(domain, STATES["assigned"]).when(confirm(), facts=called)
    confirmed.then_types(delivery.PharmacyReviewed)
    assert confirmed.decision.calls == ()
    for state in ("confirmed", "released"):
        check(state, courier()).then_invalid("not_found")
        assert not view.may_see(STATES[state], RIDER)
        assert view.may_see(STATES[state], PHARMACIST)
    assert view.missing(STATES["confirmed"]) == ["price", "scan", "settlement", "hand_over"]


def test_it_is_promised_to_be_ready_and_then_waits_until_the_end_of_the_time() -> None:
    opened = Given(domain, domain.initial()).when(TOLD, facts=facts())
    assert SetTimer("promise", READY, "1") in opened.decision.timers
    released = check("sealed", settled()).then_types(delivery.ParcelReleased)
    assert released.decision.timers == (
        DropTimer("promise", "1"),
        SetTimer("pick_up", UNTIL, "1", answered_over_http=True),
    )


def test_the_code_of_the_patient_opens_it_once() -> None:
    done = check("released", hand_out(), READY + timedelta(hours=1)).then_types(ParcelDelivered)
    (event,) = done.decision.events
    assert isinstance(event, ParcelDelivered)
    assert (event.at_counter, event.courier_tenant, event.late) == (True, None, False)
    assert event.due_at == UNTIL
    assert DropTimer("pick_up", "1") in done.decision.timers
    again = done.and_when(hand_out(), facts=facts(PHARMACIST)).then_stale()
    assert again.decision.answer == done.decision.answer
    done.and_when(closed(Outcome.DELIVERED), facts=facts()).then_types(Closed)


def test_what_lay_ready_and_is_given_back_breaks_the_promise_to_keep_it() -> None:
    later = READY + timedelta(minutes=20)
    back = check("released", give_back(), later)
    back.then_types(PromiseBroken, delivery.AttemptFailed)
    told = back.decision.events[0]
    assert isinstance(told, PromiseBroken)
    assert (told.due_at, told.stage) == (READY, Stage.PICKING)
    # Until it was to lie ready another pharmacy may still have it by then.
    check("released", give_back(), READY).then_types(delivery.AttemptFailed)


@pytest.mark.parametrize(
    ("state", "command", "code"),
    [
        ("released", hand_out(code="00000000"), "code_mismatch"),
        ("released", hand_out(code="１８５６０１５９"), "code_mismatch"),
        ("released", hand_out(token="a-token-of-another-attempt"), "token_refused"),
        ("released", hand_out(refused=("NOSUCHDRUG",)), "not_in_parcel"),
        ("released", hand_out(refused=(FIRST.product_code, SECOND.product_code)), "nothing_taken"),
        ("sealed", hand_out(), "not_released"),
        ("confirmed", hand_out(), "not_released"),
        ("left", hand_out(), "already_returned"),
        ("let_go", hand_out(), "order_ended"),
        ("given back", hand_out(), "token_refused"),
        ("collected", give_back(), "already_picked_up"),
        ("left", give_back(), "already_returned"),
    ],
)
def test_what_is_refused_at_the_counter(state: str, command: Message, code: str) -> None:
    check(state, command).then_invalid(code)


def test_after_five_wrong_codes_none_is_looked_at_for_a_while() -> None:
    state, known = STATES["released"], None
    for tries in range(1, WRONG_CODES_MAX + 1):
        guess = hand_out(code=f"{tries:08}")
        said = Given(domain, state).when(guess, facts=facts(PHARMACIST, known))
        said.then_invalid("code_mismatch")
        known = counted(state, guess, known, NOW)
        assert known == WrongCodes(tries, NOW)
    assert known is not None
    now = NOW + WRONG_CODES_PAUSE - timedelta(seconds=1)
    for code in (COUNTER_CODE, "00000000"):
        said = Given(domain, state).when(
            hand_out(code=code), now=now, facts=facts(PHARMACIST, known)
        )
        said.then_invalid("too_many_codes")
        assert said.decision.status == 429
        assert counted(state, hand_out(code=code), known, now) is None
    now = NOW + WRONG_CODES_PAUSE
    done = Given(domain, state).when(hand_out(), now=now, facts=facts(PHARMACIST, known))
    done.then_types(ParcelDelivered)
    assert counted(state, hand_out(code="00000000"), known, now) == WrongCodes(1, now)


@pytest.mark.parametrize(
    ("state", "command"),
    [
        ("released", hand_out()),
        ("released", hand_out(code="00000000", token="a-token-of-another-attempt")),
        ("released", hand_out(code="00000000", attempt=2)),
        ("sealed", hand_out(code="00000000")),
        ("collected", hand_out(code="00000000")),
    ],
)
def test_what_opens_nothing_else_uses_no_try_up(state: str, command: delivery.HandOut) -> None:
    assert counted(STATES[state], command, None, NOW) is None


def test_another_chain_and_a_courier_see_no_such_order() -> None:
    check("released", hand_out(), actor=STRANGER).then_invalid("not_found")
    check("released", hand_out(), actor=RIDER).then_invalid("not_found")


def test_a_drug_that_is_not_taken_goes_back() -> None:
    done = check("released", hand_out(refused=(FIRST.product_code,)))
    (event,) = done.decision.events
    assert isinstance(event, ParcelDelivered)
    assert event.refused_lines == (LINE_A,)


def test_what_nobody_collects_stays_and_is_no_breach() -> None:
    gone = check("released", timer("pick_up", due_at=UNTIL), UNTIL).then_types(ParcelReturned)
    (event,) = gone.decision.events
    assert isinstance(event, ParcelReturned)
    assert (event.reason, event.courier_tenant) == (ReturnReason.NOT_COLLECTED, None)
    gone.and_when(closed(Outcome.RETURNED), facts=facts()).then_types(Closed)


def test_the_pharmacy_is_late_when_it_is_not_ready_and_nobody_once_it_is() -> None:
    late = check("confirmed", timer("promise", due_at=READY), READY).then_types(PromiseBroken)
    (broken,) = late.decision.events
    assert isinstance(broken, PromiseBroken)
    assert (broken.tier, broken.due_at) == (Tier.PICK_UP, READY)
    assert broken.stage in (Stage.PICKING, Stage.SETTLEMENT)
    behind = check("sealed", settled(), READY + timedelta(minutes=1))
    behind.then_types(PromiseBroken, delivery.ParcelReleased)
    collected = behind.and_when(hand_out(), now=UNTIL, facts=facts(PHARMACIST))
    (event,) = [one for one in collected.decision.events if isinstance(one, ParcelDelivered)]
    assert event.late
    check("released", timer("promise", due_at=READY), READY).then_stale()


@pytest.mark.parametrize(("state", "message"), [("assigned", confirm()), ("confirmed", priced())])
def test_what_is_not_packed_when_the_time_ends_is_given_back_and_not_left_by_the_patient(
    state: str, message: Message
) -> None:
    shortly = UNTIL - timedelta(minutes=10)
    told = check(state, message, shortly)
    assert SetTimer("seal", UNTIL, "1", answered_over_http=True) in told.decision.timers
    ended = told.and_when(timer("seal", due_at=UNTIL), now=UNTIL, facts=facts())
    assert isinstance(ended.decision.events[-1], delivery.AttemptFailed)
    early = check(state, message)
    within = SetTimer("seal", NOW + SEAL_WITHIN, "1", answered_over_http=True)
    assert within in early.decision.timers


def test_what_is_paid_when_the_time_is_over_was_never_left_by_the_patient() -> None:
    soon = check("sealed", settled(), UNTIL - timedelta(seconds=1))
    soon.then_types(PromiseBroken, delivery.ParcelReleased)
    over = check("sealed", settled(), UNTIL).then_types(PromiseBroken, delivery.AttemptFailed)
    over.and_when(settled(), now=UNTIL, facts=facts()).then_stale()


def test_a_cancellation_is_too_late_once_confirmed_and_it_may_still_be_given_back() -> None:
    said = check("released", forwarded())
    (answer,) = said.decision.events
    assert isinstance(answer, delivery.CancelAnswered)
    assert answer.result is CancelResult.TOO_LATE_MARKED
    check("released", give_back()).then_types(delivery.AttemptFailed)


def test_a_courier_cannot_say_that_nobody_came_for_it() -> None:
    fields: dict[str, Any] = {"order_id": uuid4(), "attempt": 1, "courier_ref": "rider-1"}
    with pytest.raises(ValueError, match="told by the clock"):
        delivery.ReturnParcel(**fields, reason=ReturnReason.NOT_COLLECTED)


def test_the_code_is_drawn_for_each_attempt_and_shown_to_the_hospital() -> None:
    state = STATES["released"]
    attempt, parcel = state.last, state.parcel
    assert attempt is not None
    assert parcel is not None
    told = view.collection(TOLD.order_id, attempt, parcel)
    assert (told["code"], told["from"], told["until"]) == (
        COUNTER_CODE,
        READY.isoformat(),
        UNTIL.isoformat(),
    )
    shown = view.delivery(TOLD.order_id, state, PHARMACIST, blocked=False)
    assert COUNTER_CODE not in str(shown)
    assert after(assigned()).attempts[0].code == ""
