"""Whatever comes in whatever order, an order leaves review with exactly one outcome."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.message import Event
from schemas.review import (
    CancelAnswered,
    CancelForwarded,
    ReviewApproved,
    ReviewCancelled,
    ReviewRejected,
)
from schemas.values import CancelCause
from services.kit.decision import DropTimer, Facts, SetTimer, TimerFired, Verdict
from services.kit.spec import NOW, facts_for
from services.review import domain
from services.review.domain import State
from services.review.domain.acts import seen
from services.review.domain.state import Step
from services.review.domain.watch import Load
from tests.unit.prescription.examples import prescription_id
from tests.unit.review.examples import (
    COLLEAGUE,
    PHARMACIST,
    REVIEWERS,
    SENIOR,
    TITLE,
    a_correction,
    an_issue,
    banned,
    cancel,
    choice,
    clear,
    doubtful,
    escalate,
    give_back,
    hand_over,
    take,
)

OUTCOMES = ReviewApproved | ReviewRejected | ReviewCancelled
MAKERS = {"clear": clear, "banned": banned, "doubtful": doubtful}

kinds = st.sampled_from(sorted(MAKERS))
sheets = st.lists(kinds, min_size=1, max_size=3)
numbers = st.integers(1, 3)
pharmacists = st.sampled_from([PHARMACIST, COLLEAGUE])
titles = st.sampled_from([TITLE, SENIOR])
actions = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 200)),
    st.tuples(st.just("take"), pharmacists, titles),
    st.tuples(st.just("escalate"), numbers, st.sampled_from(["second", "senior"]), pharmacists),
    st.tuples(st.just("give_back"), pharmacists),
    st.tuples(st.just("hand_over"), pharmacists, pharmacists, titles),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(
        st.just("decide"), numbers, st.sampled_from(["approve", "return", "reject"]), pharmacists
    ),
    st.tuples(st.just("correct"), numbers, kinds, st.integers(1, 4)),
    st.tuples(st.just("cancel"), st.sampled_from(list(CancelCause)), st.integers(1, 3)),
    st.tuples(st.just("timer"), numbers),
    st.tuples(st.just("again"), st.just(0)),
)


class Run:
    """One order, its clock, its timers and everything it published."""

    def __init__(self, order: list[str]) -> None:
        self.now: datetime = NOW
        self.state: State = domain.initial()
        self.bodies = tuple(MAKERS[kind](n) for n, kind in enumerate(order, 1))
        self.timers: dict[str, datetime] = {}
        self.published: list[Event] = []
        self.count = 0
        self.last: tuple[Any, Facts] = an_issue(*self.bodies)
        self.send(*self.last)

    def send(self, message: Any, facts: Facts) -> Verdict:
        self.last = message, facts
        decision = domain.decide(self.state, message, self.now, facts)
        assert (decision.verdict is Verdict.APPLIED) or not decision.events
        for event in decision.events:
            self.state = domain.evolve(self.state, event)
            if isinstance(event, Event):
                self.published.append(event)
        for timer in decision.timers:
            if isinstance(timer, SetTimer):
                self.timers[timer.ref] = timer.due_at
            elif isinstance(timer, DropTimer):
                self.timers.pop(timer.ref, None)
        self.state = State.model_validate_json(self.state.model_dump_json())
        return decision.verdict

    def desk(self) -> Facts:
        self.count += 1
        return facts_for(ids=[UUID(int=1000 + self.count)] * 8, actor=REVIEWERS)

    def act(self, name: str, *args: Any) -> None:
        getattr(self, f"do_{name}")(*args)

    def do_wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    def do_again(self, _: int) -> None:
        self.send(*self.last)

    def do_take(self, pharmacist: str, title: str) -> None:
        self.send(take(pharmacist, title), self.desk())

    def do_decide(self, number: int, decision: str, pharmacist: str) -> None:
        self.send(choice(decision, number, **self.shown(number, pharmacist)), self.desk())

    def do_escalate(self, number: int, to: str, pharmacist: str) -> None:
        self.send(escalate(to, number, **self.shown(number, pharmacist)), self.desk())

    def do_give_back(self, pharmacist: str) -> None:
        self.send(give_back(self.lease, pharmacist), self.desk())

    def do_hand_over(self, pharmacist: str, to: str, title: str) -> None:
        changes = {"pharmacist": pharmacist, "to_title": title, "lease": self.lease}
        self.send(hand_over(to, **changes), self.desk())

    @property
    def lease(self) -> UUID:
        """The one that stands, or one that never was."""
        return self.state.lease.lease if self.state.lease else UUID(int=1)

    def shown(self, number: int, pharmacist: str) -> dict[str, Any]:
        """What a page sends back of a prescription."""
        sheet = self.state.sheet(prescription_id(number))
        lay = {"version": sheet.version, "seen": seen(sheet)} if sheet else {"version": 1}
        return {**lay, "pharmacist": pharmacist, "lease": self.lease}

    def do_correct(self, number: int, kind: str, version: int) -> None:
        if number <= len(self.bodies):
            body = MAKERS[kind](number, at=self.now)
            self.send(*a_correction(body, self.bodies, version))

    def do_cancel(self, cause: CancelCause, request: int) -> None:
        self.send(cancel(cause, UUID(int=request)), facts_for())

    def do_timer(self, number: int) -> None:
        ref = str(prescription_id(number))
        due = self.timers.get(ref)
        if due is not None and due <= self.now:
            del self.timers[ref]
            self.send(TimerFired(domain.CORRECTION, ref, due), facts_for())

    def do_look(self, _: int) -> None:
        due = self.timers.get("")
        if due is not None and due <= self.now:
            del self.timers[""]
            self.send(TimerFired(domain.DESK, "", due), facts_for(found=Load(1, 0)))

    def finish(self) -> None:
        """Nobody is idle for ever: every timer fires, every waiting case is decided."""
        for turn in range(10):
            self.now += timedelta(hours=3)
            self.do_look(0)
            for number in (1, 2, 3):
                self.do_timer(number)
            fresh = f"P-9{turn}"
            for sheet in self.state.at(Step.PERSON):
                self.do_take(fresh, SENIOR)
                number = int(str(sheet.prescription_id)[-2:])
                self.do_decide(number, "reject", fresh)
            if self.state.end is not None:
                return
        raise AssertionError("the order never left review")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(order=sheets, script=st.lists(actions, max_size=25))
def test_exactly_one_outcome(order: list[str], script: list[tuple[Any, ...]]) -> None:
    run = Run(order)
    for name, *args in script:
        run.act(name, *args)
    run.finish()
    outcomes = [event for event in run.published if isinstance(event, OUTCOMES)]
    assert len(outcomes) == 1
    assert not run.timers
    for sheet in run.state.sheets:
        signed = [(act.version, act.pharmacist) for act in sheet.acts]
        assert len(signed) == len(set(signed)), "nobody signs the same version twice"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(order=sheets, script=st.lists(actions, max_size=25))
def test_every_cancellation_has_one_answer_or_is_forwarded_once(
    order: list[str], script: list[tuple[Any, ...]]
) -> None:
    run = Run(order)
    asked = {args[1] for name, *args in script if name == "cancel"}
    for name, *args in script:
        run.act(name, *args)
    kinds = CancelAnswered | CancelForwarded
    told = [event.request_id for event in run.published if isinstance(event, kinds)]
    assert sorted(told) == sorted(UUID(int=request) for request in asked)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(order=sheets, script=st.lists(actions, max_size=25))
def test_an_approval_holds_approved_lines_alone(
    order: list[str], script: list[tuple[Any, ...]]
) -> None:
    run = Run(order)
    for name, *args in script:
        run.act(name, *args)
    run.finish()
    for event in run.published:
        if isinstance(event, ReviewApproved):
            assert {line.prescription_id for line in event.order.lines} == set(event.approved)
            refused = {item.prescription_id for item in event.rejected}
            everyone = {prescription_id(n) for n in range(1, len(order) + 1)}
            assert refused | set(event.approved) == everyone
            assert not refused & set(event.approved)
            assert event.order.expires_at >= min(s.ends_at for s in run.state.sheets)
