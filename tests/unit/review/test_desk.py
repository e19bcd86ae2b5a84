"""Who may decide what at the desk: titles, second and senior pharmacists, shifts, and the clock."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.review import ReviewAct, ReviewApproved, ReviewDelayed, ReviewEscalated, ReviewRejected
from services.kit.decision import DropTimer, SetTimer, TimerFired
from services.kit.spec import NOW, Given, facts_for
from services.review import domain
from services.review.domain.acts import seen
from services.review.domain.findings import Kept, Told
from services.review.domain.state import (
    CaseHandedOver,
    CaseLaidBack,
    CaseTaken,
    DeskTimedOut,
    Examined,
    PersonDecided,
    State,
    Step,
)
from services.review.domain.watch import Load
from services.review.rules import Pack
from services.review.rules.shelf import Packs, installed, stand
from tests.unit.review.examples import (
    ASSISTANT,
    COLLEAGUE,
    LEASE,
    OTHERS,
    PHARMACIST,
    REVIEWERS,
    SENIOR,
    TITLE,
    a_correction,
    after,
    banned,
    choice,
    clear,
    desk,
    doubtful,
    escalate,
    give_back,
    hand_over,
    in_review,
    opened,
    returned,
    rules,
    take,
    taken,
)

NEXT = UUID("01950000-0000-7000-8000-0000000000d2")
Policy = Callable[..., Pack]


@pytest.fixture
def policy() -> Iterator[Policy]:
    """From now on the general pack has this policy."""

    def put(**changes: Any) -> Pack:
        content = dict(rules().content)
        made = Pack({**content, "desk": {**content["desk"], **changes}})
        stand(Packs((made,), {}, {}))
        return made

    yield put
    stand(installed())


def looked(after: timedelta) -> tuple[TimerFired, Any]:
    """The desk's clock strikes, with a full desk."""
    return TimerFired(domain.DESK, "", NOW + after), facts_for(found=Load(9, 2))


class TestTitles:
    @pytest.mark.parametrize(
        ("title", "code", "status"),
        [
            ("", "title_missing", 422),
            ("3", "unknown_title", 422),
            (ASSISTANT, "title_not_allowed", 403),
        ],
    )
    def test_who_may_not_review_takes_nothing(self, title: str, code: str, status: int) -> None:
        outcome = in_review(doubtful()).and_when(take(title=title), facts=desk())
        assert outcome.then_invalid(code).decision.status == status

    def test_a_place_may_ask_for_more(self, policy: Policy) -> None:
        policy(titles=["2.1"])
        case = in_review(doubtful())
        case.and_when(take(), facts=desk()).then_invalid("title_not_allowed")
        case.and_when(take(title="2.1"), facts=desk()).then_types(CaseTaken)

    def test_a_roster_knows_better_than_the_sender(self, policy: Policy) -> None:
        policy(roster={PHARMACIST: "2.4"}, only_roster=True)
        case = in_review(doubtful())
        case.and_when(take(title=SENIOR), facts=desk()).then_invalid("title_differs")
        case.and_when(take(COLLEAGUE), facts=desk()).then_invalid("unknown_pharmacist")
        case.and_when(take(), facts=desk()).then_types(CaseTaken)


class TestSigning:
    def test_an_act_says_who_as_what_when_and_over_what(self) -> None:
        case = taken(doubtful())
        lay = seen(case.state.sheets[0])
        later = NOW + timedelta(minutes=1)
        outcome = case.and_when(choice("approve"), now=later, facts=desk())
        event = outcome.decision.events[-1]
        assert isinstance(event, ReviewApproved)
        assert event.acts == (
            ReviewAct(
                prescription_id=event.approved[0],
                version=1,
                decision="approve",
                pharmacist=PHARMACIST,
                title=TITLE,
                tenant_id=REVIEWERS.tenant_id,
                at=later,
                seen=lay,
                rule_pack=rules().id,
            ),
        )

    def test_without_what_was_seen_nothing_is_decided(self) -> None:
        case = taken(doubtful())
        after(case).when(choice("approve"), facts=desk()).then_invalid("seen_missing")
        wrong = case.and_when(choice("approve", seen="0" * 64), facts=desk())
        assert wrong.then_invalid("seen_changed").decision.status == 409

    def test_what_a_colleague_has_signed_since_is_seen_anew(self, policy: Policy) -> None:
        policy(second=["L02-assess"])
        case = taken(doubtful())
        old = seen(case.state.sheets[0])
        after = case.and_when(choice("approve"), facts=desk())
        again = after.and_when(take(COLLEAGUE), facts=desk(lease=NEXT))
        sent = choice("approve", pharmacist=COLLEAGUE, lease=NEXT, seen=old)
        again.and_when(sent, facts=desk()).then_invalid("seen_changed")

    def test_text_findings_and_pack_all_count(self) -> None:
        (sheet,) = in_review(doubtful()).state.sheets
        other = in_review(doubtful(version=2)).state.sheets[0]
        changes = ({"version": 2}, {"kept": None}, {"rule_pack": "x"}, {"wants": "senior"})
        hashes = {seen(sheet.model_copy(update=change)) for change in changes}
        assert len(hashes | {seen(sheet), seen(other)}) == 5

    def test_every_finding_has_its_inputs_text_and_source(self) -> None:
        case = in_review(doubtful())
        (sheet,) = case.state.sheets
        assert [one.rule for one in sheet.spoken if one.severity != "note"] == ["L02-assess"]
        found = opened(sheet.kept, Kept).findings
        assert [one.rule for one in found] == [one.rule for one in sheet.headings]
        assert all(f.source and f.zh and f.en and f.version for f in found)
        open_words = case.state.model_dump_json() + str(case.decision.events)
        assert [f.rule for f in found if f.zh in open_words or f.en in open_words] == []

    def test_a_state_of_before_findings_were_sealed_is_still_decided(self) -> None:
        case = taken(doubtful())
        (sheet,) = case.state.sheets
        found = opened(sheet.kept, Kept).findings
        old = sheet.model_copy(update={"findings": found, "headings": (), "kept": None})
        text = case.state.model_copy(update={"sheets": (old,)}).model_dump(mode="json")
        del text["sheets"][0]["headings"], text["sheets"][0]["kept"]
        state = State.model_validate(text)
        assert state.sheets[0].spoken == sheet.spoken
        command = choice("approve", seen=seen(state.sheets[0]))
        Given(domain, state).when(command, facts=desk()).then_types(PersonDecided, ReviewApproved)


class TestSecondPharmacist:
    def test_where_the_pack_says_so_two_different_ones_must_pass_it(self, policy: Policy) -> None:
        policy(second=["L02-assess"])
        first = taken(doubtful()).and_when(choice("approve"), facts=desk())
        first.then_types(PersonDecided, CaseLaidBack)
        assert first.decision.answer["wants"] == "second"
        first.and_when(take(), facts=desk()).then_invalid("second_needed")
        first.and_when(take(PHARMACIST.lower()), facts=desk()).then_invalid("second_needed")
        second = first.and_when(take(COLLEAGUE), facts=desk(lease=NEXT))
        sent = choice("approve", pharmacist=COLLEAGUE, lease=NEXT)
        done = second.and_when(sent, facts=desk()).then_types(PersonDecided, ReviewApproved)
        event = done.decision.events[-1]
        assert isinstance(event, ReviewApproved)
        assert [act.pharmacist for act in event.acts] == [PHARMACIST, COLLEAGUE]

    def test_one_is_enough_to_reject_or_return(self, policy: Policy) -> None:
        policy(second=["L02-assess"])
        rejected = taken(doubtful()).and_when(choice("reject"), facts=desk())
        rejected.then_types(PersonDecided, ReviewRejected)
        assert returned(doubtful()).state.sheets[0].step is Step.RETURNED

    def test_another_rule_needs_one(self, policy: Policy) -> None:
        policy(second=["P02"])
        case = taken(doubtful()).and_when(choice("approve"), facts=desk())
        case.then_types(PersonDecided, ReviewApproved)

    def test_the_first_word_again_gets_the_first_answer(self, policy: Policy) -> None:
        policy(second=["L02-assess"])
        once = taken(doubtful()).and_when(choice("approve"), facts=desk())
        again = once.and_when(choice("approve"), facts=desk()).then_stale()
        assert again.decision.answer == once.decision.answer

    def test_a_new_version_is_read_by_anybody_again(self) -> None:
        event, facts = a_correction(doubtful(), (doubtful(),))
        case = returned(doubtful()).and_when(event, facts=facts)
        case.and_when(take(), facts=desk()).then_types(CaseTaken)


class TestEscalation:
    def test_to_a_second_one_means_somebody_else(self) -> None:
        left = taken(doubtful()).and_when(escalate("second"), facts=desk())
        left.then_types(PersonDecided, CaseLaidBack)
        (act,) = left.state.sheets[0].acts
        assert opened(act.told, Told).text == "剂量不常见"
        left.and_when(take(), facts=desk()).then_invalid("second_needed")
        other = left.and_when(take(COLLEAGUE), facts=desk(lease=NEXT))
        sent = choice("approve", pharmacist=COLLEAGUE, lease=NEXT)
        other.and_when(sent, facts=desk()).then_types(PersonDecided, ReviewApproved)

    def test_to_a_senior_one_means_by_title(self) -> None:
        left = taken(doubtful()).and_when(escalate("senior"), facts=desk())
        left.and_when(take(COLLEAGUE), facts=desk()).then_invalid("senior_needed")
        senior = left.and_when(take(COLLEAGUE, SENIOR), facts=desk(lease=NEXT))
        sent = choice("approve", pharmacist=COLLEAGUE, lease=NEXT)
        senior.and_when(sent, facts=desk()).then_types(PersonDecided, ReviewApproved)

    def test_leaving_one_of_two_keeps_the_case(self) -> None:
        case = taken(doubtful(1), doubtful(2)).and_when(escalate("second"), facts=desk())
        case.then_types(PersonDecided)
        assert case.state.lease is not None
        case.and_when(choice("approve", 2), facts=desk()).then_types(PersonDecided, CaseLaidBack)

    def test_the_same_again_changes_nothing(self) -> None:
        once = taken(doubtful()).and_when(escalate("second"), facts=desk())
        again = once.and_when(escalate("second"), facts=desk()).then_stale()
        assert again.decision.answer == once.decision.answer

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"lease": NEXT}, "lease_lost"),
            ({"version": 2}, "version_changed"),
            ({"prescription_id": UUID(int=1)}, "unknown_prescription"),
            ({"seen": "0" * 64}, "seen_changed"),
        ],
    )
    def test_a_wrong_one_is_refused(self, changes: dict[str, Any], code: str) -> None:
        case = taken(doubtful()).and_when(escalate("second", **changes), facts=desk())
        case.then_invalid(code)


class TestShift:
    def test_given_back_anybody_may_take_it(self) -> None:
        back = taken(doubtful()).and_when(give_back(), facts=desk()).then_types(CaseLaidBack)
        back.and_when(choice("approve"), facts=desk()).then_invalid("lease_lost")
        back.and_when(give_back(), facts=desk()).then_stale()
        back.and_when(take(COLLEAGUE), facts=desk()).then_types(CaseTaken)

    def test_only_the_holder_gives_back(self) -> None:
        case = taken(doubtful())
        case.and_when(give_back(pharmacist=COLLEAGUE), facts=desk()).then_invalid("lease_lost")
        case.and_when(give_back(), facts=desk(OTHERS)).then_invalid("lease_lost")
        case.and_when(give_back(NEXT), facts=desk()).then_invalid("lease_lost")

    def test_handed_over_the_colleague_has_it_and_it_is_recorded(self) -> None:
        case = taken(doubtful()).and_when(hand_over(), facts=desk(lease=NEXT))
        case.then_types(CaseHandedOver)
        (record,) = case.state.hand_overs
        assert (record.giver, record.taker, record.lease) == (PHARMACIST, COLLEAGUE, LEASE)
        case.and_when(choice("approve"), facts=desk()).then_invalid("lease_lost")
        sent = choice("approve", pharmacist=COLLEAGUE, lease=NEXT)
        done = case.and_when(sent, facts=desk()).then_types(PersonDecided, ReviewApproved)
        assert done.state.sheets[0].acts[0].pharmacist == COLLEAGUE

    def test_handed_over_twice_is_handed_over_once(self) -> None:
        once = taken(doubtful()).and_when(hand_over(), facts=desk(lease=NEXT))
        again = once.and_when(hand_over(), facts=desk(lease=UUID(int=7))).then_stale()
        assert again.decision.answer == once.decision.answer

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"to": PHARMACIST.lower()}, "same_pharmacist"),
            ({"to_title": ASSISTANT}, "title_not_allowed"),
            ({"to_title": ""}, "title_missing"),
            ({"to": "D-1"}, "own_prescription"),
            ({"lease": NEXT}, "lease_lost"),
        ],
    )
    def test_not_to_everybody(self, changes: dict[str, Any], code: str) -> None:
        case = taken(doubtful()).and_when(hand_over(**changes), facts=desk(lease=NEXT))
        case.then_invalid(code)

    def test_another_desk_hands_nothing_over(self) -> None:
        taken(doubtful()).and_when(hand_over(), facts=desk(OTHERS)).then_invalid("lease_lost")


class TestPlaces:
    def test_a_case_lies_on_the_desk_that_the_policy_names(self, policy: Policy) -> None:
        policy(reviewers=["reviewers"])
        case = in_review(doubtful())
        case.and_when(take(), facts=desk(OTHERS)).then_invalid("not_your_desk")
        case.and_when(take(), facts=desk()).then_types(CaseTaken)

    def test_the_pool_helps_at_its_hours_and_whoever_has_a_case_ends_it(
        self, policy: Policy
    ) -> None:
        night = {"name": "night", "starts": "18:00", "ends": "08:00", "reviewers": ["reviewers-2"]}
        policy(reviewers=["reviewers"], pools=[night])
        late, case = NOW + timedelta(hours=1), in_review(doubtful())
        case.and_when(take(), facts=desk(OTHERS)).then_invalid("not_your_desk")
        # NOW is five in the afternoon in China.
        held = case.and_when(take(), now=late, facts=desk(OTHERS)).then_types(CaseTaken)
        policy(reviewers=["reviewers"])
        done = held.and_when(choice("approve"), now=late, facts=desk(OTHERS))
        done.then_types(PersonDecided, ReviewApproved)

    def test_nothing_passes_unseen_where_the_city_forbids_it(self, policy: Policy) -> None:
        policy(auto_pass=False)
        outcome = in_review(clear(), banned(2)).then_types(Examined, ReviewEscalated)
        assert [sheet.step for sheet in outcome.state.sheets] == [Step.PERSON, Step.REJECTED]
        case = outcome.and_when(take(), facts=desk())
        case.and_when(choice("approve"), facts=desk()).then_types(PersonDecided, ReviewApproved)


class TestClock:
    def test_a_case_is_looked_at_while_it_could_still_be_in_time(self) -> None:
        case = in_review(doubtful())
        assert case.decision.timers == (SetTimer(domain.DESK, NOW + timedelta(minutes=4)),)
        event, facts = looked(timedelta(minutes=4))
        outcome = case.and_when(event, now=event.due_at, facts=facts)
        (delayed,) = outcome.then_types(ReviewDelayed).decision.events
        assert isinstance(delayed, ReviewDelayed)
        assert (delayed.since, delayed.decide_by) == (NOW, NOW + timedelta(minutes=5))
        assert (delayed.taken, delayed.waiting, delayed.in_hand) == (False, 9, 2)
        assert outcome.decision.timers == (DropTimer(domain.DESK),)
        outcome.and_when(event, now=event.due_at, facts=facts).then_types()

    def test_whoever_has_it_in_hand_has_all_the_time(self) -> None:
        case = taken(doubtful())
        assert case.decision.timers == (SetTimer(domain.DESK, NOW + timedelta(minutes=5)),)
        event, facts = looked(timedelta(minutes=4))
        case.and_when(event, now=event.due_at, facts=facts).then_types()
        late, facts = looked(timedelta(minutes=5))
        outcome = case.and_when(late, now=late.due_at, facts=facts).then_types(ReviewDelayed)
        outcome.and_when(choice("approve"), facts=desk()).then_types(PersonDecided, ReviewApproved)

    def test_given_back_too_late_it_is_told_at_once(self) -> None:
        later = NOW + timedelta(minutes=4, seconds=30)
        back = taken(doubtful()).and_when(give_back(), now=later, facts=desk())
        assert back.decision.timers == (SetTimer(domain.DESK, NOW + timedelta(minutes=4)),)

    def test_the_outcome_stops_the_clock(self) -> None:
        done = taken(doubtful()).and_when(choice("approve"), facts=desk())
        assert done.decision.timers == (DropTimer(domain.DESK),)
        event, facts = looked(timedelta(minutes=4))
        done.and_when(event, now=event.due_at, facts=facts).then_stale()

    def test_a_correction_starts_it_again(self) -> None:
        event, facts = a_correction(doubtful(), (doubtful(),))
        late = NOW + timedelta(hours=1)
        case = returned(doubtful()).and_when(event, now=late, facts=facts)
        assert SetTimer(domain.DESK, late + timedelta(minutes=4)) in case.decision.timers

    def test_what_nobody_decides_is_rejected_where_the_policy_says_so(self, policy: Policy) -> None:
        policy(timeout={"minutes": 30, "then": "reject"})
        event, facts = looked(timedelta(minutes=30))
        case = in_review(clear(1), doubtful(2)).and_when(event, now=event.due_at, facts=facts)
        case.then_types(DeskTimedOut, ReviewApproved)
        approved = case.decision.events[-1]
        assert isinstance(approved, ReviewApproved)
        (rejected,) = approved.rejected
        assert [(r.code, r.rule_id) for r in rejected.reasons] == [("1-3", "desk-timeout")]

    def test_a_timeout_never_passes_anything(self, policy: Policy) -> None:
        policy(auto_pass=False, timeout={"minutes": 30, "then": "reject"})
        event, facts = looked(timedelta(hours=9))
        case = in_review(clear()).and_when(event, now=event.due_at, facts=facts)
        case.then_types(DeskTimedOut, ReviewRejected)

    def test_a_timeout_may_open_the_case_to_the_pool(self, policy: Policy) -> None:
        night = {"name": "n", "starts": "01:00", "ends": "02:00", "reviewers": ["reviewers-2"]}
        timeout = {"minutes": 10, "then": "pool"}
        policy(reviewers=["reviewers"], pools=[night], timeout=timeout)
        case, late = in_review(doubtful()), NOW + timedelta(minutes=10)
        case.and_when(take(), facts=desk(OTHERS)).then_invalid("not_your_desk")
        case.and_when(take(), now=late, facts=desk(OTHERS)).then_types(CaseTaken)
