"""Submitting, correcting, cancelling, expiring and closing an order."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from schemas.claim import OrderClosed
from schemas.datum import from_wgs84
from schemas.prescription import (
    CancelAnswered,
    CancelRequested,
    PrescriptionCorrected,
    PrescriptionIssued,
)
from schemas.values import CancelCause, CancelResult, GeoPoint, Outcome
from services.kit.decision import Actor, DropTimer, Note, SetTimer, TimerFired
from services.kit.spec import NOW, ORDER_ID, Given, facts_for, given
from services.prescription import domain
from services.prescription.domain import Ended, Recorded, SheetMark
from tests.unit.prescription.examples import (
    HOSPITAL,
    OTHER_HOSPITAL,
    REQUEST,
    cancellation,
    correct_facts,
    correction,
    drug,
    issued,
    line,
    prescription_id,
    sheet,
    submission,
    submit_facts,
)

ENDS = NOW + timedelta(days=3)
EXPIRED = TimerFired(domain.EXPIRY, "", ENDS)
CLOSED = OrderClosed(order_id=ORDER_ID, outcome=Outcome.DELIVERED, attempt=1)
MARK = SheetMark(prescription_id=prescription_id(1), version=1, digest="digest-0")


def an_order(*sheets: dict[str, Any], and_then: tuple[Any, ...] = ()) -> Given:
    command = submission(*sheets)
    marks = tuple(
        SheetMark(prescription_id=s.prescription_id, version=s.version, digest=f"digest-{n}")
        for n, s in enumerate(command.prescriptions)
    )
    return given(domain, issued(command), Recorded(sheets=marks), *and_then)


def requested(cause: CancelCause = CancelCause.PATIENT) -> CancelRequested:
    return CancelRequested(order_id=ORDER_ID, request_id=REQUEST, cause=cause)


class TestSubmit:
    def test_a_right_order_is_issued(self) -> None:
        command = submission()
        outcome = given(domain).when(command, facts=submit_facts(command))
        outcome.then(issued(command), Recorded(sheets=(MARK,)))
        assert outcome.decision.timers == (SetTimer(domain.EXPIRY, ENDS),)
        assert outcome.decision.answer == {"order_id": str(ORDER_ID), "order_number": "A-1"}

    def test_the_order_carries_all_lines_and_no_exact_place(self) -> None:
        command = submission(
            sheet(1, line("amlodipine"), line("metformin")), sheet(2, line("poria"))
        )
        order = self.order(command)
        codes = [drug(inn).product_code for inn in ("amlodipine", "metformin", "poria")]
        assert [item.product_code for item in order.lines] == codes
        assert len({item.line_id for item in order.lines}) == 3
        assert [item.prescription_id for item in order.lines] == [
            prescription_id(1),
            prescription_id(1),
            prescription_id(2),
        ]
        assert order.point == GeoPoint(lat=30.657, lon=104.066)
        assert (order.hospital_id, order.submitted_at) == (HOSPITAL.tenant_id, NOW)

    def test_a_place_in_the_shifted_datum_of_maps_is_kept_as_it_is_on_earth(self) -> None:
        lat, lon = from_wgs84(30.65712, 104.06598)
        place = {"address": "测试路 1 号", "lat": lat, "lon": lon, "datum": "GCJ-02"}
        command = submission(delivery=place)
        assert (round(command.delivery.point.lat, 7), round(command.delivery.point.lon, 7)) == (
            30.65712,
            104.06598,
        )
        assert self.order(command).point == GeoPoint(lat=30.657, lon=104.066)
        assert (round(lat, 3), round(lon, 3)) != (30.657, 104.066)
        with pytest.raises(ValidationError, match="datum"):
            submission(delivery={**place, "datum": "BD-09"})

    def test_the_catalogue_says_what_must_stay_cold(self) -> None:
        command = submission(sheet(1, line("insulin glargine", dose="10"), line("metformin")))
        assert [item.cold_chain for item in self.order(command).lines] == [True, False]

    def test_an_order_expires_with_its_earliest_prescription(self) -> None:
        earlier = sheet(2, at=NOW - timedelta(hours=5), valid_days=1)
        assert self.order(submission(sheet(1), earlier)).expires_at == NOW + timedelta(hours=19)

    def test_without_a_voucher_the_patient_pays_where_the_order_is_placed(self) -> None:
        order = self.order(submission(voucher=None))
        assert (order.insured, order.payer_area) == (False, "990100")

    def test_the_same_submission_again_gets_the_first_answer(self) -> None:
        first, command = UUID(int=7), submission()
        facts = submit_facts(command, earlier_order=first, earlier_same=True)
        outcome = given(domain).when(command, facts=facts).then_stale()
        assert outcome.decision.answer == {"order_id": str(first), "order_number": "A-1"}

    def test_an_order_number_stands_for_one_order(self) -> None:
        command = submission()
        facts = submit_facts(command, earlier_order=UUID(int=7), earlier_same=False)
        outcome = given(domain).when(command, facts=facts).then_invalid("order_number_taken")
        assert (outcome.decision.status, outcome.decision.field) == (409, "order_number")

    def test_a_prescription_is_used_once(self) -> None:
        command = submission()
        facts = submit_facts(command, used_prescription=prescription_id(1))
        given(domain).when(command, facts=facts).then_invalid("prescription_used")

    def test_nobody_can_submit_onto_an_order_that_exists(self) -> None:
        command = submission()
        an_order().when(command, facts=submit_facts(command)).then_invalid("order_exists")
        tombstone = given(domain, Ended(outcome=Outcome.CANCELLED))
        tombstone.when(command, facts=submit_facts(command)).then_invalid("order_exists")

    def test_only_a_hospital_submits(self) -> None:
        command = submission()
        for actor in (None, Actor(HOSPITAL.tenant_id, "courier")):
            outcome = given(domain).when(command, facts=submit_facts(command, actor=actor))
            assert outcome.then_invalid("not_allowed").decision.status == 403

    @staticmethod
    def order(command: Any) -> Any:
        decision = given(domain).when(command, facts=submit_facts(command)).decision
        event = decision.events[0]
        assert isinstance(event, PrescriptionIssued)
        return event.order


class TestCorrect:
    def test_a_higher_version_replaces_its_sheet_and_keeps_the_others(self) -> None:
        command = correction(sheet(1, line("irbesartan")))
        before = an_order(sheet(1), sheet(2, line("metformin")))
        outcome = before.when(command, facts=correct_facts(command))
        outcome.then_types(PrescriptionCorrected, Recorded)
        event = outcome.decision.events[0]
        assert isinstance(event, PrescriptionCorrected)
        codes = {item.prescription_id: item.product_code for item in event.order.lines}
        assert codes == {
            prescription_id(1): drug("irbesartan").product_code,
            prescription_id(2): drug("metformin").product_code,
        }
        assert (event.prescription_id, event.version) == (prescription_id(1), 2)
        assert {m.prescription_id: m.version for m in outcome.state.sheets} == {
            prescription_id(1): 2,
            prescription_id(2): 1,
        }

    def test_it_may_shorten_the_orders_life_but_not_lengthen_it(self) -> None:
        shorter = correction(sheet(1, valid_days=1))
        outcome = an_order().when(shorter, facts=correct_facts(shorter))
        assert outcome.decision.timers == (SetTimer(domain.EXPIRY, NOW + timedelta(days=1)),)
        later = correction(sheet(1, at=NOW + timedelta(minutes=4)))
        outcome = an_order().when(later, facts=correct_facts(later))
        assert outcome.state.order.expires_at == ENDS

    def test_the_same_version_again_gets_the_first_answer(self) -> None:
        command = correction(sheet(1))
        once = an_order().when(command, facts=correct_facts(command))
        again = once.and_when(command, facts=correct_facts(command)).then_stale()
        assert again.decision.answer == once.decision.answer

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_version_that_is_not_higher_is_refused(self, version: int) -> None:
        known = Recorded(sheets=(MARK.model_copy(update={"version": 2}),))
        command = correction(sheet(1), version=version)
        outcome = an_order(and_then=(known,)).when(command, facts=correct_facts(command))
        assert outcome.then_invalid("stale_version").decision.field == "prescription.version"

    def test_its_form_is_checked_like_the_first(self) -> None:
        command = correction(sheet(1, line(product_code="XUNKNOWN0001")))
        outcome = an_order().when(command, facts=correct_facts(command))
        outcome.then_invalid("unknown_product")
        assert outcome.decision.field == "prescription.lines.0.product_code"

    def test_a_sheet_the_order_never_had_is_refused(self) -> None:
        command = correction(sheet(9))
        outcome = an_order().when(command, facts=correct_facts(command))
        outcome.then_invalid("unknown_prescription")

    def test_another_hospitals_order_does_not_exist(self) -> None:
        command = correction(sheet(1))
        facts = correct_facts(command, actor=OTHER_HOSPITAL)
        assert an_order().when(command, facts=facts).decision.status == 404

    def test_a_closed_order_cannot_be_corrected(self) -> None:
        command = correction(sheet(1))
        closed = an_order(and_then=(Ended(outcome=Outcome.REJECTED),))
        closed.when(command, facts=correct_facts(command)).then_invalid("order_closed")

    def test_an_expired_order_gets_no_second_expiry(self) -> None:
        command = correction(sheet(1))
        expired = an_order(and_then=(requested(CancelCause.EXPIRY),))
        assert expired.when(command, facts=correct_facts(command)).decision.timers == ()


class TestCancel:
    def test_the_wish_goes_down_the_road(self) -> None:
        outcome = an_order().when(cancellation(reason="老人"), facts=facts_for(actor=HOSPITAL))
        outcome.then(requested().model_copy(update={"reason": "老人"}))
        assert outcome.decision.answer["result"] == "requested"

    def test_the_same_request_again_gets_the_first_answer(self) -> None:
        once = an_order().when(cancellation(), facts=facts_for(actor=HOSPITAL))
        late = given(domain, issued(submission()), requested(), Ended(outcome=Outcome.CANCELLED))
        again = late.when(cancellation(), facts=facts_for(actor=HOSPITAL)).then_stale()
        assert again.decision.answer == once.decision.answer

    def test_a_closed_order_is_answered_here(self) -> None:
        closed = an_order(and_then=(Ended(outcome=Outcome.DELIVERED),))
        outcome = closed.when(cancellation(), facts=facts_for(actor=HOSPITAL))
        outcome.then(
            CancelAnswered(
                order_id=ORDER_ID,
                request_id=REQUEST,
                cause=CancelCause.PATIENT,
                result=CancelResult.ALREADY_ENDED,
                detail="delivered",
            )
        )
        outcome.and_when(cancellation(), facts=facts_for(actor=HOSPITAL)).then_stale()

    def test_only_the_hospital_of_the_order_may(self) -> None:
        outcome = an_order().when(cancellation(), facts=facts_for(actor=OTHER_HOSPITAL))
        assert outcome.then_invalid("unknown_order").decision.status == 404

    def test_an_unknown_order_is_refused(self) -> None:
        outcome = given(domain).when(cancellation(), facts=facts_for(actor=HOSPITAL))
        outcome.then_invalid("unknown_order")

    def test_requests_are_bounded(self) -> None:
        many = [requested().model_copy(update={"request_id": UUID(int=n)}) for n in range(20)]
        outcome = an_order(and_then=tuple(many)).when(
            cancellation(), facts=facts_for(actor=HOSPITAL)
        )
        outcome.then_invalid("too_many_requests")


class TestExpiry:
    def test_expiry_walks_the_road_of_a_cancellation(self) -> None:
        facts = facts_for()
        expected = requested(CancelCause.EXPIRY).model_copy(update={"request_id": facts.ids[0]})
        outcome = an_order().when(EXPIRED, now=ENDS, facts=facts).then(expected)
        outcome.and_when(EXPIRED, now=ENDS).then_stale()

    def test_a_timer_before_its_time_was_moved(self) -> None:
        an_order().when(EXPIRED, now=ENDS - timedelta(seconds=1)).then_stale()

    def test_a_closed_order_does_not_expire(self) -> None:
        an_order(and_then=(Ended(outcome=Outcome.DELIVERED),)).when(EXPIRED, now=ENDS).then_stale()

    def test_a_timer_without_an_order_is_a_fault(self) -> None:
        given(domain).when(EXPIRED, now=ENDS).then_invalid("unknown_order")


class TestClose:
    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_every_outcome_ends_it_and_drops_the_timer(self, outcome: Outcome) -> None:
        closed = CLOSED.model_copy(update={"outcome": outcome})
        result = an_order().when(closed).then(Ended(outcome=outcome))
        assert result.decision.timers == (DropTimer(domain.EXPIRY),)
        result.and_when(closed).then_stale()

    def test_an_unknown_order_becomes_a_tombstone(self) -> None:
        given(domain).when(CLOSED).then(Ended(outcome=Outcome.DELIVERED))


STATES: dict[str, tuple[Any, ...]] = {
    "unknown": (),
    "issued": (issued(submission()), Recorded(sheets=(MARK,))),
    "cancelled": (issued(submission()), Recorded(sheets=(MARK,)), requested()),
    "expired": (issued(submission()), Recorded(sheets=(MARK,)), requested(CancelCause.EXPIRY)),
    "closed": (issued(submission()), Recorded(sheets=(MARK,)), Ended(outcome=Outcome.DELIVERED)),
    "tombstone": (Ended(outcome=Outcome.DELIVERED),),
}
SUBMIT, CORRECT = submission(), correction(sheet(1))
OTHER_REQUEST = UUID(int=99)
MESSAGES: dict[str, tuple[Any, Any]] = {
    "submit": (SUBMIT, submit_facts(SUBMIT)),
    "correct": (CORRECT, correct_facts(CORRECT)),
    "cancel": (cancellation(OTHER_REQUEST), facts_for(actor=HOSPITAL)),
    "expiry": (EXPIRED, facts_for()),
    "close": (CLOSED, facts_for()),
}
EXPECTED = {
    ("unknown", "submit"): "issued",
    ("unknown", "correct"): "unknown_order",
    ("unknown", "cancel"): "unknown_order",
    ("unknown", "expiry"): "unknown_order",
    ("unknown", "close"): "tombstone",
    ("issued", "submit"): "order_exists",
    ("issued", "correct"): "corrected",
    ("issued", "cancel"): "requested",
    ("issued", "expiry"): "requested",
    ("issued", "close"): "closed",
    ("cancelled", "submit"): "order_exists",
    ("cancelled", "correct"): "corrected",
    ("cancelled", "cancel"): "requested",
    ("cancelled", "expiry"): "requested",
    ("cancelled", "close"): "closed",
    ("expired", "submit"): "order_exists",
    ("expired", "correct"): "corrected",
    ("expired", "cancel"): "requested",
    ("expired", "expiry"): "stale",
    ("expired", "close"): "closed",
    ("closed", "submit"): "order_exists",
    ("closed", "correct"): "order_closed",
    ("closed", "cancel"): "answered",
    ("closed", "expiry"): "stale",
    ("closed", "close"): "stale",
    ("tombstone", "submit"): "order_exists",
    ("tombstone", "correct"): "unknown_order",
    ("tombstone", "cancel"): "unknown_order",
    ("tombstone", "expiry"): "stale",
    ("tombstone", "close"): "stale",
}
APPLIED: dict[str, tuple[type, ...]] = {
    "issued": (PrescriptionIssued, Recorded),
    "corrected": (PrescriptionCorrected, Recorded),
    "requested": (CancelRequested,),
    "answered": (CancelAnswered,),
    "closed": (Ended,),
    "tombstone": (Ended,),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_in_every_state(state: str, message: str) -> None:
    body, facts = MESSAGES[message]
    outcome = given(domain, *STATES[state]).when(body, now=ENDS, facts=facts)
    expected = EXPECTED[state, message]
    if expected in APPLIED:
        outcome.then_types(*APPLIED[expected])
    elif expected == "stale":
        outcome.then_stale()
    else:
        outcome.then_invalid(expected)


def test_a_message_nobody_knows_is_invalid() -> None:
    an_order().when(TimerFired("lunch", "", NOW)).then_invalid("unknown_message")


def test_a_foreign_note_is_a_fault() -> None:
    with pytest.raises(TypeError, match="no fact of prescription"):
        domain.evolve(domain.initial(), Note())
