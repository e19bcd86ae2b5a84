"""The way of one parcel, told as given / when / then."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from schemas import delivery
from schemas.delivery import GiveBackReason, ReturnReason
from schemas.values import CancelCause, CancelResult, Outcome, Stage, Tier
from services.delivery import domain
from services.delivery.domain.couriers import PICK_UP, travel
from services.delivery.domain.state import AttemptOpened, AttemptPriced, Closed, LetGo, Step
from services.delivery.domain.timers import pick_up as fetched_by
from services.delivery.planning import fetched_at
from services.kit.decision import Actor, Decision, DropTimer, Message, SetTimer, Verdict
from services.kit.spec import NOW, Given
from services.kit.spec import Outcome as Result
from tests.unit.delivery.story import (
    CODES_A,
    CODES_B,
    DUE,
    FIRST,
    FLEET,
    LINE_B,
    OTHER_RIDER,
    PHARMACIST,
    RIDER,
    SECOND,
    STATES,
    STRANGER,
    actor_of,
    after,
    assigned,
    bring_back,
    closed,
    confirm,
    courier,
    declined,
    facts,
    forwarded,
    give_back,
    hand_over,
    pick_up,
    priced,
    seal,
    settled,
    timer,
    token,
    uid,
)

LATE = DUE + timedelta(seconds=1)


def check(
    state: str | domain.State,
    message: Message,
    now: datetime = NOW,
    *,
    actor: Actor | None = None,
) -> Result:
    """Decide one message in a named state."""
    start = STATES[state] if isinstance(state, str) else state
    sender = actor or actor_of(message)
    return Given(domain, start).when(message, now=now, facts=facts(sender))


def timers_of(decision: Decision) -> dict[str, SetTimer | DropTimer]:
    return {timer.kind: timer for timer in decision.timers}


def test_an_assignment_opens_the_attempt_and_times_confirmation_and_promise() -> None:
    decision = check("unknown", assigned()).then_types(AttemptOpened).decision
    assert decision.timers == (
        SetTimer("confirm", NOW + timedelta(minutes=10), "1", answered_over_http=True),
        SetTimer("promise", DUE, "1"),
    )


def test_the_voucher_is_not_kept() -> None:
    assert str(uid(21)) not in STATES["assigned"].model_dump_json()


def test_confirmation_tells_the_couriers_all_they_need() -> None:
    result = check("assigned", confirm()).then_types(delivery.PharmacyReviewed)
    (event,) = result.decision.events
    assert isinstance(event, delivery.PharmacyReviewed)
    assert event.pharmacist == "pharmacist-7"
    assert event.cold_chain is True
    assert (event.due_at, event.pharmacy_id, event.courier.key_id) == (DUE, uid(41), uid(23))
    assert result.decision.answer["lines"][0]["trace_prefix"] == FIRST.trace_prefix
    assert timers_of(result.decision) == {
        "confirm": DropTimer("confirm", "1"),
        "seal": SetTimer("seal", NOW + timedelta(minutes=45), "1", answered_over_http=True),
    }


def test_a_time_that_was_agreed_goes_along_and_no_courier_is_there_before_it() -> None:
    begins = DUE - timedelta(hours=2)
    told = assigned(tier=Tier.SCHEDULED, not_before=begins)
    given = Given(domain, Given(domain, domain.initial()).when(told, facts=facts()).state)
    confirmed = given.when(confirm(), facts=facts(PHARMACIST))
    (reviewed,) = confirmed.decision.events
    assert isinstance(reviewed, delivery.PharmacyReviewed)
    assert (reviewed.tier, reviewed.not_before) == (Tier.SCHEDULED, begins)
    state = confirmed.state
    attempt, parcel = state.last, state.parcel
    ride = travel(attempt.pharmacy_point, parcel.destination)
    packed = begins - timedelta(hours=1)
    assert fetched_at(packed, attempt, parcel) + PICK_UP + ride == begins
    assert fetched_at(begins, attempt, parcel) == begins
    # A fleet that rides faster is sent later.
    quick = travel(attempt.pharmacy_point, parcel.destination, 16.0)
    assert fetched_at(packed, attempt, parcel, 16.0) + PICK_UP + quick == begins
    on_the_clock = attempt.model_copy(update={"not_before": None})
    assert fetched_at(packed, on_the_clock, parcel) == packed
    hour = timedelta(hours=1)
    assert fetched_by(attempt, packed).due_at == begins + hour
    assert fetched_by(attempt, begins + hour).due_at == begins + 2 * hour
    assert fetched_by(on_the_clock, packed).due_at == packed + hour


def test_the_time_for_picking_begins_anew_with_the_price() -> None:
    later = NOW + timedelta(minutes=7)
    decision = check("confirmed", priced(), later).then(AttemptPriced(attempt=1)).decision
    assert timers_of(decision)["seal"] == SetTimer(
        "seal", later + timedelta(minutes=45), "1", answered_over_http=True
    )
    assert check("assigned", priced()).then(AttemptPriced(attempt=1)).decision.timers == ()


def test_a_scan_seals_the_parcel_with_all_codes() -> None:
    result = check("picking", seal()).then_types(delivery.ParcelSealed)
    (event,) = result.decision.events
    assert isinstance(event, delivery.ParcelSealed)
    assert [line.codes for line in event.lines] == [CODES_A, CODES_B]
    assert result.decision.answer == {
        "order_id": str(event.order_id),
        "attempt": 1,
        "state": "sealed",
        "seal": "SEAL-0001",
    }


def test_settlement_releases_and_calls_for_pick_up() -> None:
    decision = check("sealed", settled()).then_types(delivery.ParcelReleased).decision
    wanted = SetTimer("pick_up", NOW + timedelta(minutes=60), "1", answered_over_http=True)
    assert decision.timers == (wanted,)


def test_hand_over_in_time() -> None:
    result = check("riding", hand_over(), DUE).then_types(delivery.ParcelDelivered)
    (event,) = result.decision.events
    assert isinstance(event, delivery.ParcelDelivered)
    assert (event.late, event.delivered_at, event.due_at) == (False, DUE, DUE)
    assert DropTimer("promise", "1") in result.decision.timers


def test_a_drug_that_the_patient_does_not_take_goes_back() -> None:
    left = hand_over(refused=(SECOND.product_code,))
    result = check("riding", left, DUE).then_types(delivery.ParcelDelivered)
    (event,) = result.decision.events
    assert isinstance(event, delivery.ParcelDelivered)
    assert event.refused_lines == (LINE_B,)
    both = hand_over(refused=(FIRST.product_code, SECOND.product_code))
    check("riding", both, DUE).then_invalid("nothing_taken")
    strange = hand_over(refused=("XA99ZZZ999Z999999999",))
    check("riding", strange, DUE).then_invalid("not_in_parcel")


def test_a_late_hand_over_never_lacks_its_breach() -> None:
    result = check("riding", hand_over(), LATE)
    result.then_types(delivery.PromiseBroken, delivery.ParcelDelivered)
    broken, delivered = result.decision.events
    assert isinstance(broken, delivery.PromiseBroken)
    assert isinstance(delivered, delivery.ParcelDelivered)
    assert (broken.stage, broken.due_at, delivered.late) == (Stage.RIDE, DUE, True)
    assert result.decision.answer["late"] is True


def test_a_breach_told_at_the_very_minute_makes_the_hand_over_late() -> None:
    broken = check("riding", timer("promise"), DUE).then_types(delivery.PromiseBroken).state
    result = check(broken, hand_over(), DUE).then_types(delivery.ParcelDelivered)
    (event,) = result.decision.events
    assert isinstance(event, delivery.ParcelDelivered)
    assert event.late is True


def test_the_courier_alone_ends_a_ride_however_late() -> None:
    left = check("released", pick_up())
    told = check("riding", timer("promise"), DUE).then_types(delivery.PromiseBroken)
    for decision in (left.decision, told.decision):
        assert not [timer for timer in decision.timers if isinstance(timer, SetTimer)]
    check(told.state, hand_over(), DUE + timedelta(days=30)).then_types(delivery.ParcelDelivered)


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        ("assigned", Stage.PHARMACY_REVIEW),
        ("priced", Stage.PHARMACY_REVIEW),
        ("confirmed", Stage.SETTLEMENT),
        ("picking", Stage.PICKING),
        ("sealed", Stage.SETTLEMENT),
        ("released", Stage.COURIER_WAIT),
        ("riding", Stage.RIDE),
    ],
)
def test_a_breach_blames_the_stage_it_stands_in(state: str, stage: Stage) -> None:
    result = check(state, timer("promise"), DUE).then_types(delivery.PromiseBroken)
    (event,) = result.decision.events
    assert isinstance(event, delivery.PromiseBroken)
    assert (event.stage, event.city, event.due_at) == (stage, "310000", DUE)
    check(result.state, timer("promise"), LATE).then_stale()


def test_a_step_after_the_promised_time_stands_behind_the_breach_of_the_stage_before() -> None:
    result = check("picking", seal(), LATE)
    result.then_types(delivery.PromiseBroken, delivery.ParcelSealed)
    broken = result.decision.events[0]
    assert isinstance(broken, delivery.PromiseBroken)
    assert broken.stage is Stage.PICKING
    assert result.decision.answer["state"] == "sealed"


def test_one_promise_is_broken_once_over_all_attempts() -> None:
    state = check("assigned", timer("promise"), DUE).state
    state = check(state, give_back(), LATE).then_types(delivery.AttemptFailed).state
    decision = check(state, assigned(2), LATE).then_types(AttemptOpened).decision
    assert "promise" not in timers_of(decision)
    later = DUE + timedelta(hours=1)
    decision = check(state, assigned(2, due_at=later), LATE).decision
    assert timers_of(decision)["promise"] == SetTimer("promise", later, "2")


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("confirm", "assigned", GiveBackReason.OTHER),
        ("seal", "confirmed", GiveBackReason.OTHER),
        ("pick_up", "released", GiveBackReason.NO_COURIER),
    ],
)
def test_silence_ends_the_attempt(kind: str, state: str, reason: GiveBackReason) -> None:
    result = check(state, timer(kind)).then_types(delivery.AttemptFailed)
    (event,) = result.decision.events
    assert isinstance(event, delivery.AttemptFailed)
    assert event.reason is reason
    dropped = {"promise", "confirm", "seal", "pick_up"}
    assert {timer.kind for timer in result.decision.timers} == dropped


def test_a_timer_of_an_older_attempt_means_nothing() -> None:
    state = after(assigned(2), start=STATES["failed"])
    check(state, timer("confirm", 1)).then_stale()
    check(state, timer("confirm", 2)).then_types(delivery.AttemptFailed)


def test_an_unknown_timer_is_told() -> None:
    check("assigned", timer("lunch")).then_invalid("unknown_timer")


def test_giving_back_frees_the_order_for_the_next_attempt() -> None:
    result = check("released", give_back(products=(FIRST.product_code,)))
    result.then(
        delivery.AttemptFailed(
            order_id=facts().order_id,
            attempt=1,
            pharmacy_id=uid(41),
            reason=GiveBackReason.DAMAGED,
            products=(FIRST.product_code,),
        )
    )
    state = after(assigned(2), confirm(2), start=result.state)
    check(state, settled(1)).then_stale()
    check(state, seal(1)).then_invalid("token_refused")
    check(state, confirm(2)).then_stale()


@pytest.mark.parametrize(
    ("cause", "result"),
    [
        (CancelCause.PATIENT, CancelResult.CANCELLED),
        (CancelCause.PRESCRIBER, CancelResult.CANCELLED),
        (CancelCause.EXPIRY, CancelResult.EXPIRED),
    ],
)
def test_before_the_confirmation_an_order_can_be_taken_back(
    cause: CancelCause, result: CancelResult
) -> None:
    order_id = facts().order_id
    check("priced", forwarded(cause=cause)).then(
        delivery.DeliveryCancelled(order_id=order_id, attempt=1, cause=cause, pharmacy_id=uid(41)),
        delivery.CancelAnswered(order_id=order_id, request_id=uid(60), cause=cause, result=result),
    )


@pytest.mark.parametrize(
    ("state", "result"),
    [
        ("confirmed", CancelResult.TOO_LATE_MARKED),
        ("sealed", CancelResult.TOO_LATE_MARKED),
        ("released", CancelResult.TOO_LATE_MARKED),
        ("riding", CancelResult.TOO_LATE_MARKED),
        ("delivered", CancelResult.TOO_LATE_DISPENSED),
        ("done", CancelResult.TOO_LATE_DISPENSED),
        ("returned", CancelResult.ALREADY_ENDED),
        ("cancelled", CancelResult.ALREADY_ENDED),
        ("let_go", CancelResult.ALREADY_ENDED),
        ("tombstone", CancelResult.ALREADY_ENDED),
    ],
)
def test_afterwards_the_answer_says_why_not(state: str, result: CancelResult) -> None:
    (event,) = check(state, forwarded()).then_types(delivery.CancelAnswered).decision.events
    assert isinstance(event, delivery.CancelAnswered)
    assert (event.result, event.request_id) == (result, uid(60))


def test_a_mark_is_kept_and_the_give_back_goes_out_just_the_same() -> None:
    marked = check("sealed", forwarded()).state
    assert marked.last is not None
    assert marked.last.marked is CancelCause.PATIENT
    check(marked, give_back()).then_types(delivery.AttemptFailed)
    check(marked, settled()).then_types(delivery.ParcelReleased)


def test_a_declined_claim_lets_go_at_once() -> None:
    result = check("sealed", declined()).then(LetGo(attempt=1))
    assert result.state.last is not None
    assert result.state.last.step is Step.LET_GO
    check(result.state, closed()).then(Closed(outcome=Outcome.CANCELLED))
    check(result.state, assigned(2)).then_stale()
    check(after(declined(0)), assigned()).then_stale()


def test_a_decline_of_an_older_attempt_is_stale_until_the_order_is_closed() -> None:
    state = after(assigned(2), confirm(2), start=STATES["failed"])
    check(state, declined(1)).then_stale()
    ended = check(state, closed()).then(Closed(outcome=Outcome.CANCELLED)).state
    assert ended.last is not None
    assert ended.last.step is Step.LET_GO


@pytest.mark.parametrize(
    ("state", "command"),
    [
        ("assigned", confirm()),
        ("picking", seal()),
        ("sealed", give_back()),
        ("confirmed", courier()),
        ("released", pick_up()),
        ("riding", hand_over()),
        ("riding", bring_back()),
    ],
)
def test_a_repeated_command_gets_its_first_answer(state: str, command: Message) -> None:
    first = check(state, command)
    assert first.decision.verdict is Verdict.APPLIED
    again = check(first.state, command, NOW + timedelta(minutes=3)).then_stale()
    assert again.decision.answer == first.decision.answer


def test_a_repetition_long_after_gets_the_same_answer() -> None:
    first = check("released", pick_up()).decision.answer
    assert check("delivered", pick_up()).then_stale().decision.answer == first
    first = check("confirmed", courier()).decision.answer
    assert check("delivered", courier()).then_stale().decision.answer == first
    first = check("picking", seal()).decision.answer
    assert check("done", seal()).then_stale().decision.answer == first


def test_another_seal_or_other_codes_are_not_a_repetition() -> None:
    check("sealed", seal(seal="SEAL-0002")).then_invalid("already_sealed")
    check("sealed", seal(scans=seal().scans[:1])).then_invalid("already_sealed")
    check("sealed", seal(scans=seal().scans[::-1])).then_stale()


@pytest.mark.parametrize("command", [confirm, seal, give_back])
def test_only_the_token_of_the_live_attempt_opens_the_door(command: Callable[..., Message]) -> None:
    wrong = command(token="another-token-of-16")
    check("assigned", wrong).then_invalid("token_refused")
    check("assigned", command(2)).then_invalid("token_refused")
    check("assigned", command(), actor=STRANGER).then_invalid("not_found")
    second = after(assigned(2), start=STATES["failed"])
    old = check(second, command(1)).then_invalid("token_refused").decision
    assert "no longer counts" in old.detail
    check(second, command(2, token=token(1))).then_invalid("token_refused")
    assert check("unknown", command()).then_invalid("not_found").decision.status == 404


def test_a_courier_is_taken_by_the_first_who_names_one() -> None:
    state = after(courier(), start=STATES["sealed"])
    assert state.last is not None
    assert state.last.courier_tenant == FLEET
    check(state, courier(ref="rider-2")).then_invalid("courier_taken")
    check(state, courier(), actor=OTHER_RIDER).then_invalid("courier_taken")
    check(state, courier(), actor=PHARMACIST).then_invalid("not_found")


@pytest.mark.parametrize("command", [pick_up, hand_over, bring_back])
def test_only_the_named_courier_carries(command: Callable[..., Message]) -> None:
    check("released", command(ref="rider-2")).then_invalid("other_courier")
    check("released", command(), actor=OTHER_RIDER).then_invalid("not_found")
    check("released", command(2)).then_invalid("not_found")


def test_a_parcel_leaves_only_released_and_with_its_own_seal() -> None:
    sealed = after(courier(), start=STATES["sealed"])
    check(sealed, pick_up()).then_invalid("not_released")
    check("released", pick_up(seal="SEAL-0002")).then_invalid("seal_mismatch")
    check("released", pick_up()).then_types(delivery.ParcelPickedUp)


def test_a_return_says_why() -> None:
    result = check("riding", bring_back(reason=ReturnReason.COLD_CHAIN))
    (event,) = result.then_types(delivery.ParcelReturned).decision.events
    assert isinstance(event, delivery.ParcelReturned)
    assert event.reason is ReturnReason.COLD_CHAIN
    again = check(result.state, bring_back(reason=ReturnReason.LOST), actor=RIDER).then_stale()
    assert again.decision.answer["reason"] == "cold_chain"
