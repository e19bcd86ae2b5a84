"""The road of an order through review, from the rules' reading to its one outcome."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.review import (
    CancelAnswered,
    CancelForwarded,
    ReviewApproved,
    ReviewCancelled,
    ReviewEscalated,
    ReviewRejected,
    ReviewReturned,
)
from schemas.values import CancelCause, CancelResult
from services.kit.decision import Actor, DropTimer, Note, SetTimer, TimerFired
from services.kit.spec import NOW, ORDER_ID, Outcome, facts_for, given
from services.review import domain
from services.review.domain.acts import seen
from services.review.domain.findings import Told
from services.review.domain.state import (
    BY_RULES,
    CaseLaidBack,
    CaseTaken,
    CorrectionExamined,
    CorrectionMissed,
    End,
    Examined,
    PersonDecided,
    Step,
)
from tests.unit.prescription.examples import REQUEST, drug, line, prescription_id, sheet
from tests.unit.review.examples import (
    COLLEAGUE,
    DEADLINE,
    LEASE,
    OTHERS,
    PHARMACIST,
    a_correction,
    an_issue,
    banned,
    cancel,
    choice,
    clear,
    deadline,
    desk,
    doubtful,
    in_review,
    opened,
    returned,
    rules,
    take,
    taken,
)


def _signed_by(licence: str) -> dict[str, Any]:
    prescriber: dict[str, Any] = doubtful()["prescriber"]
    return {**prescriber, "signer": licence}


def approved_of(outcome: Outcome) -> ReviewApproved:
    event = outcome.decision.events[-1]
    assert isinstance(event, ReviewApproved)
    return event


class TestTheRulesRead:
    def test_what_they_clear_is_approved_at_once(self) -> None:
        outcome = in_review(clear()).then_types(Examined, ReviewApproved)
        event = approved_of(outcome)
        assert event.approved == (prescription_id(1),)
        assert event.rejected == ()
        assert (event.rule_pack, event.reviewer) == (rules().id, BY_RULES)

    def test_what_they_refuse_is_rejected_with_the_official_code(self) -> None:
        outcome = in_review(banned()).then_types(Examined, ReviewRejected)
        event = outcome.decision.events[-1]
        assert isinstance(event, ReviewRejected)
        (rejected,) = event.rejected
        (reason,) = rejected.reasons
        assert (reason.code, reason.rule_id, reason.rule_pack) == ("2-9", "N02-names", rules().id)
        assert reason.line_id is not None

    def test_one_of_two_refused_leaves_only_the_others_lines(self) -> None:
        event = approved_of(in_review(clear(1), banned(2)))
        assert [item.product_code for item in event.order.lines] == [drug("metformin").product_code]
        assert [item.prescription_id for item in event.rejected] == [prescription_id(2)]

    def test_the_order_expires_with_the_earliest_that_was_approved(self) -> None:
        early = NOW - timedelta(hours=20)
        refused_early = in_review(clear(1), banned(2, at=early, valid_days=1))
        assert approved_of(refused_early).order.expires_at == NOW + timedelta(days=3)
        cleared_early = in_review(clear(1), clear(2, at=early, valid_days=1))
        assert approved_of(cleared_early).order.expires_at == NOW + timedelta(hours=4)

    def test_what_they_cannot_clear_goes_to_a_person_and_nothing_is_decided(self) -> None:
        outcome = in_review(clear(1), doubtful(2)).then_types(Examined, ReviewEscalated)
        event = outcome.decision.events[-1]
        assert isinstance(event, ReviewEscalated)
        assert event.prescription_ids == (prescription_id(2),)
        assert [reason.rule_id for reason in event.reasons] == ["L02-assess"]
        assert outcome.state.end is None

    def test_the_same_fact_again_changes_nothing(self) -> None:
        event, facts = an_issue(clear())
        in_review(clear()).and_when(event, facts=facts).then_stale()

    def test_without_the_opened_record_nothing_is_decided(self) -> None:
        event, _ = an_issue(clear())
        with pytest.raises(TypeError, match="open the clinical part"):
            given(domain).when(event)


class TestTheDesk:
    def test_a_case_is_taken_for_five_minutes(self) -> None:
        outcome = in_review(doubtful()).and_when(take(), facts=desk()).then_types(CaseTaken)
        assert outcome.decision.answer["lease"] == str(LEASE)
        assert outcome.decision.answer["expires_at"] == (NOW + timedelta(minutes=5)).isoformat()
        (waiting,) = outcome.decision.answer["prescriptions"]
        assert (waiting["prescription_id"], waiting["version"]) == (str(prescription_id(1)), 1)
        assert waiting["seen"] == seen(outcome.state.sheets[0])

    def test_another_pharmacist_meanwhile_is_refused(self) -> None:
        outcome = taken(doubtful()).and_when(take(COLLEAGUE), facts=desk())
        assert outcome.then_invalid("case_taken").decision.status == 409

    def test_another_company_is_another_pharmacist(self) -> None:
        taken(doubtful()).and_when(take(), facts=desk(OTHERS)).then_invalid("case_taken")

    def test_the_same_pharmacist_keeps_it_longer_under_the_same_lease(self) -> None:
        later = NOW + timedelta(minutes=4)
        fresh = facts_for(ids=[UUID(int=5)] * 8, actor=desk().actor)
        outcome = taken(doubtful()).and_when(take(), now=later, facts=fresh)
        outcome.then_types(CaseTaken)
        assert outcome.decision.answer["lease"] == str(LEASE)
        assert outcome.state.lease.until == later + timedelta(minutes=5)

    def test_a_lease_ends_by_itself(self) -> None:
        later = NOW + timedelta(minutes=5)
        case = taken(doubtful())
        case.and_when(choice("approve"), now=later, facts=desk()).then_invalid("lease_lost")
        case.and_when(take(COLLEAGUE), now=later, facts=desk()).then_types(CaseTaken)

    def test_nothing_to_decide_nothing_to_take(self) -> None:
        returned(doubtful()).and_when(take(), facts=desk()).then_invalid("nothing_to_decide")

    def test_approving_the_last_one_is_the_outcome(self) -> None:
        outcome = taken(clear(1), doubtful(2)).and_when(choice("approve", 2), facts=desk())
        outcome.then_types(PersonDecided, ReviewApproved)
        event = approved_of(outcome)
        assert event.approved == (prescription_id(1), prescription_id(2))
        assert event.reviewer == PHARMACIST
        assert outcome.state.lease is None

    def test_the_first_of_two_is_no_outcome_yet(self) -> None:
        outcome = taken(doubtful(1), doubtful(2)).and_when(choice("approve", 1), facts=desk())
        outcome.then_types(PersonDecided)
        outcome.and_when(choice("reject", 2), facts=desk()).then_types(
            PersonDecided, ReviewApproved
        )

    def test_rejecting_carries_the_official_code_and_seals_the_words(self) -> None:
        outcome = taken(doubtful()).and_when(
            choice("reject", code="2-1", reason="与诊断不符"), facts=desk()
        )
        outcome.then_types(PersonDecided, ReviewRejected)
        event = outcome.decision.events[-1]
        assert isinstance(event, ReviewRejected)
        (reason,) = event.rejected[0].reasons
        said = ("2-1", rules().codes["2-1"], "pharmacist")
        assert (reason.code, reason.text, reason.rule_id) == said
        assert opened(outcome.state.sheets[0].acts[0].told, Told).text == "与诊断不符"
        assert "与诊断不符" not in outcome.state.model_dump_json() + event.model_dump_json()

    def test_returning_gives_the_doctor_two_hours(self) -> None:
        outcome = returned(doubtful()).then_types(PersonDecided, ReviewReturned)
        event = outcome.decision.events[-1]
        assert isinstance(event, ReviewReturned)
        assert (event.version, event.deadline) == (1, DEADLINE)
        timer = SetTimer(domain.CORRECTION, DEADLINE, str(prescription_id(1)))
        assert outcome.decision.timers == (timer, DropTimer(domain.DESK))
        assert outcome.state.lease is None

    @pytest.mark.parametrize("decision", ["approve", "return", "reject"])
    def test_the_same_decision_again_gets_the_first_answer(self, decision: str) -> None:
        once = taken(doubtful()).and_when(choice(decision), facts=desk())
        late = NOW + timedelta(hours=1)
        again = once.and_when(choice(decision), now=late, facts=desk()).then_stale()
        assert again.decision.answer == once.decision.answer

    def test_another_decision_after_the_outcome_is_refused(self) -> None:
        once = taken(doubtful()).and_when(choice("approve"), facts=desk())
        once.and_when(choice("reject"), facts=desk()).then_invalid("case_closed")

    def test_what_is_decided_already_is_not_decided_again(self) -> None:
        once = taken(doubtful(1), doubtful(2)).and_when(choice("approve", 1), facts=desk())
        once.and_when(choice("reject", 1), facts=desk()).then_invalid("nothing_to_decide")

    @pytest.mark.parametrize(
        ("decision", "changes", "code", "field"),
        [
            ("approve", {"lease": UUID(int=1)}, "lease_lost", "lease"),
            ("approve", {"pharmacist": COLLEAGUE}, "lease_lost", "pharmacist"),
            ("approve", {"version": 2}, "version_changed", "version"),
            (
                "approve",
                {"prescription_id": UUID(int=1)},
                "unknown_prescription",
                "prescription_id",
            ),
            ("reject", {"code": "9-9"}, "unknown_reason_code", "code"),
            ("return", {"code": ""}, "unknown_reason_code", "code"),
        ],
    )
    def test_a_wrong_decision_is_refused(
        self, decision: str, changes: dict[str, Any], code: str, field: str
    ) -> None:
        outcome = taken(doubtful()).and_when(choice(decision, **changes), facts=desk())
        assert outcome.then_invalid(code).decision.field == field

    def test_nobody_decides_without_a_lease(self) -> None:
        in_review(doubtful()).and_when(choice("approve"), facts=desk()).then_invalid("lease_lost")

    def test_nobody_reviews_his_own_prescription(self) -> None:
        for licence in ("D-1", " d-1", "Ｄ－１"):
            case = in_review(doubtful()).and_when(take(licence), facts=desk())
            case.then_invalid("own_prescription")
        two = (doubtful(1), doubtful(2, prescriber=_signed_by("D-2")))
        case = in_review(*two).and_when(take("D-1"), facts=desk())
        own = case.and_when(choice("approve", pharmacist="D-1"), facts=desk())
        own.then_invalid("own_prescription")
        other = case.and_when(choice("approve", 2, pharmacist="D-1"), facts=desk())
        other.then_types(PersonDecided, CaseLaidBack)

    def test_what_has_run_out_is_not_approved(self) -> None:
        ends = NOW + timedelta(days=3)
        case = in_review(doubtful()).and_when(take(), now=ends, facts=desk())
        late = ends + timedelta(seconds=1)
        case.and_when(choice("approve"), now=late, facts=desk()).then_invalid(
            "prescription_expired"
        )
        case.and_when(choice("approve"), now=ends, facts=desk()).then_types(
            PersonDecided, ReviewApproved
        )

    def test_only_reviewers_sit_at_the_desk(self) -> None:
        hospital = Actor(desk().tenant_id, "hospital")
        for command in (take(), choice("approve")):
            outcome = taken(doubtful()).and_when(command, facts=desk(hospital))
            assert outcome.then_invalid("not_allowed").decision.status == 403

    def test_an_unknown_order_is_not_found(self) -> None:
        for command in (take(), choice("approve")):
            outcome = given(domain).when(command, facts=desk())
            assert outcome.then_invalid("unknown_order").decision.status == 404


class TestCorrection:
    def test_a_corrected_prescription_is_read_again(self) -> None:
        event, facts = a_correction(clear(), (doubtful(),))
        outcome = returned(doubtful()).and_when(event, facts=facts)
        outcome.then_types(CorrectionExamined, ReviewApproved)
        assert outcome.decision.timers == (DropTimer(domain.CORRECTION, str(prescription_id(1))),)
        lines = approved_of(outcome).order.lines
        assert [item.product_code for item in lines] == [drug("metformin").product_code]

    def test_only_the_corrected_sheets_lines_change(self) -> None:
        before = (doubtful(1), clear(2))
        event, facts = a_correction(sheet(1, line("irbesartan")), before)
        strange = event.order.model_copy(update={"lines": event.order.lines[1:]})
        ignored_elsewhere = event.model_copy(update={"order": strange})
        outcome = returned(*before).and_when(ignored_elsewhere, facts=facts)
        codes = {item.product_code for item in approved_of(outcome).order.lines}
        assert codes == {drug("acarbose").product_code, drug("irbesartan").product_code}

    def test_it_may_be_refused_by_the_rules(self) -> None:
        event, facts = a_correction(banned(), (doubtful(),))
        outcome = returned(doubtful()).and_when(event, facts=facts)
        outcome.then_types(CorrectionExamined, ReviewRejected)

    def test_it_may_need_a_person_again_at_its_new_version(self) -> None:
        event, facts = a_correction(doubtful(), (doubtful(),))
        outcome = returned(doubtful()).and_when(event, facts=facts)
        outcome.then_types(CorrectionExamined, ReviewEscalated)
        case = outcome.and_when(take(), facts=desk())
        case.and_when(choice("approve"), facts=desk()).then_invalid("version_changed")
        case.and_when(choice("approve", version=2), facts=desk()).then_types(
            PersonDecided, ReviewApproved
        )

    @pytest.mark.parametrize("version", [1, 2])
    def test_what_was_not_returned_is_not_wanted(self, version: int) -> None:
        event, facts = a_correction(clear(), (doubtful(),), version=version)
        taken(doubtful()).and_when(event, facts=facts).then_stale()

    def test_an_older_version_is_not_wanted(self) -> None:
        event, facts = a_correction(clear(), (doubtful(),), version=1)
        returned(doubtful()).and_when(event, facts=facts).then_stale()

    def test_after_the_outcome_it_is_too_late(self) -> None:
        event, facts = a_correction(clear(), (clear(),))
        in_review(clear()).and_when(event, facts=facts).then_stale()

    def test_before_its_order_it_is_impossible(self) -> None:
        event, facts = a_correction(clear(), (clear(),))
        given(domain).when(event, facts=facts).then_invalid("unknown_order")

    def test_a_prescription_of_another_order_is_impossible(self) -> None:
        event, facts = a_correction(clear(), (clear(),))
        strange = event.model_copy(update={"prescription_id": prescription_id(9)})
        in_review(doubtful()).and_when(strange, facts=facts).then_invalid("unknown_prescription")

    def test_without_one_the_prescription_is_rejected_for_what_it_was_returned(self) -> None:
        outcome = returned(clear(2), doubtful(1)).and_when(deadline(), now=DEADLINE)
        outcome.then_types(CorrectionMissed, ReviewApproved)
        (rejected,) = approved_of(outcome).rejected
        assert [reason.code for reason in rejected.reasons] == ["2-5"]

    def test_a_deadline_that_was_met_says_nothing(self) -> None:
        event, facts = a_correction(doubtful(), (doubtful(),))
        corrected = returned(doubtful()).and_when(event, facts=facts)
        corrected.and_when(deadline(), now=DEADLINE).then_stale()

    def test_a_deadline_that_moved_says_nothing(self) -> None:
        early = DEADLINE - timedelta(seconds=1)
        returned(doubtful()).and_when(deadline(), now=early).then_stale()

    def test_one_returned_holds_the_whole_order(self) -> None:
        outcome = returned(doubtful(1), clear(2), banned(3))
        outcome.then_types(PersonDecided, ReviewReturned)
        assert outcome.state.end is None


class TestCancellation:
    @pytest.mark.parametrize(
        ("cause", "result"),
        [
            (CancelCause.PATIENT, CancelResult.CANCELLED),
            (CancelCause.PRESCRIBER, CancelResult.CANCELLED),
            (CancelCause.EXPIRY, CancelResult.EXPIRED),
        ],
    )
    def test_without_an_outcome_it_ends_here(
        self, cause: CancelCause, result: CancelResult
    ) -> None:
        for case in (in_review(doubtful()), taken(doubtful()), returned(doubtful())):
            outcome = case.and_when(cancel(cause)).then_types(ReviewCancelled, CancelAnswered)
            answer = outcome.decision.events[-1]
            assert isinstance(answer, CancelAnswered)
            assert (answer.result, answer.request_id) == (result, REQUEST)
            assert outcome.state.lease is None

    def test_the_doctor_is_awaited_no_more(self) -> None:
        outcome = returned(doubtful()).and_when(cancel())
        assert outcome.decision.timers == (DropTimer(domain.CORRECTION, str(prescription_id(1))),)
        outcome.and_when(deadline(), now=DEADLINE).then_stale()

    def test_after_approval_it_follows_the_order(self) -> None:
        outcome = in_review(clear()).and_when(cancel(CancelCause.EXPIRY))
        outcome.then(
            CancelForwarded(order_id=ORDER_ID, request_id=REQUEST, cause=CancelCause.EXPIRY)
        )

    def test_after_rejection_there_is_nothing_to_take_back(self) -> None:
        outcome = in_review(banned()).and_when(cancel()).then_types(CancelAnswered)
        answer = outcome.decision.events[0]
        assert isinstance(answer, CancelAnswered)
        assert (answer.result, answer.detail) == (CancelResult.ALREADY_ENDED, "rejected")

    def test_a_second_wish_after_the_first_is_answered_as_ended(self) -> None:
        once = in_review(doubtful()).and_when(cancel())
        again = once.and_when(cancel(CancelCause.EXPIRY, UUID(int=3))).then_types(CancelAnswered)
        answer = again.decision.events[0]
        assert isinstance(answer, CancelAnswered)
        assert answer.result is CancelResult.ALREADY_ENDED

    def test_the_same_wish_again_changes_nothing(self) -> None:
        in_review(clear()).and_when(cancel()).and_when(cancel()).then_stale()

    def test_a_cancelled_case_is_off_the_desk(self) -> None:
        ended = taken(doubtful()).and_when(cancel())
        ended.and_when(take(), facts=desk()).then_invalid("case_closed")
        ended.and_when(choice("approve"), facts=desk()).then_invalid("case_closed")

    def test_before_its_order_it_is_impossible(self) -> None:
        given(domain).when(cancel()).then_invalid("unknown_order")


STATES = {
    "approved": lambda: in_review(clear()),
    "rejected": lambda: in_review(banned()),
    "waiting": lambda: in_review(doubtful()),
    "taken": lambda: taken(doubtful()),
    "returned": lambda: returned(doubtful()),
    "cancelled": lambda: in_review(doubtful()).and_when(cancel(request=UUID(int=8))),
}
ISSUE, CORRECTION = an_issue(clear()), a_correction(clear(), (clear(),))
MESSAGES: dict[str, tuple[Any, Any]] = {
    "issue": (ISSUE[0], ISSUE[1]),
    "correction": (CORRECTION[0], CORRECTION[1]),
    "cancel": (cancel(), facts_for()),
    "take": (take(), desk()),
    "decide": (choice("approve"), desk()),
    "deadline": (deadline(), facts_for()),
}
EXPECTED = {
    "approved": "stale stale CancelForwarded case_closed case_closed stale",
    "rejected": "stale stale CancelAnswered case_closed case_closed stale",
    "waiting": "stale stale ReviewCancelled CaseTaken lease_lost stale",
    "taken": "stale stale ReviewCancelled CaseTaken PersonDecided stale",
    "returned": "stale CorrectionExamined ReviewCancelled nothing_to_decide lease_lost "
    "CorrectionMissed",
    "cancelled": "stale stale CancelAnswered case_closed case_closed stale",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_in_every_state(state: str, message: str) -> None:
    body, facts = MESSAGES[message]
    now = DEADLINE if message == "deadline" else NOW
    outcome = STATES[state]().and_when(body, now=now, facts=facts)
    expected = EXPECTED[state].split()[list(MESSAGES).index(message)]
    if expected == "stale":
        outcome.then_stale()
    elif expected[0].isupper():
        assert type(outcome.decision.events[0]).__name__ == expected
    else:
        outcome.then_invalid(expected)


def test_a_message_nobody_knows_is_invalid() -> None:
    given(domain).when(TimerFired("lunch", "", NOW)).then_invalid("unknown_message")


def test_a_foreign_note_is_a_fault() -> None:
    with pytest.raises(TypeError, match="no fact of review"):
        domain.evolve(domain.initial(), Note())


def test_steps_and_ends_are_told_apart() -> None:
    state = returned(doubtful(1), clear(2)).state
    assert [s.step for s in state.sheets] == [Step.RETURNED, Step.APPROVED]
    assert in_review(banned()).state.end is End.REJECTED
