"""Any order of arrival between topics, any outcome of any call: one close, and no money lost.

Small models of dispatch and delivery react to claim's facts as their contracts say; the payer and
the payment provider keep books of their own, in which an unknown outcome may or may not have
happened. Hypothesis chooses who moves next.
"""

from collections import Counter, deque
from random import Random
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.claim import (
    Basis,
    CancelAnswered,
    CancelForwarded,
    ClaimAuthorised,
    ClaimDeclined,
    ClaimPriced,
    ClaimReduced,
    ClaimSettled,
    ClaimUndone,
    DecideDispute,
    DisputeDecision,
    OrderClosed,
    Split,
)
from schemas.delivery import AttemptFailed, DeliveryCancelled
from schemas.dispatch import PharmacyAssigned
from schemas.message import Event
from schemas.values import CancelCause, Outcome
from services.claim.domain.notes import MadeGood
from services.claim.domain.state import Phase, Step
from services.claim.ledger import Account, transfer_of
from services.kit.decision import Actor, CallAnswered, CallOutcome, TimerFired, Verdict
from services.kit.spec import ORDER_ID
from tests.unit.claim import story as s
from tests.unit.claim.players import Books, Delivery, Dispatch

CANCELS_MAX = 2
STEPS_MAX = 400
DONE, REFUSED, UNKNOWN = CallOutcome.DONE, CallOutcome.REFUSED, CallOutcome.UNKNOWN
# What comes with an answer to a settlement: other amounts, or the reason of a refusal.
TWISTS = ("no", "no", "no", "wrong", "amounts_changed", "code_sold")
OTHER = Split(total_fen=s.TOTAL_FEN, fund_fen=7_000, account_fen=500, cash_fen=2_500)
OPERATOR = Actor(UUID(int=ORDER_ID.int + 1), "operator", "operations")
# Whether a line is left at the door, and whether what is kept costs the patient more than before.
CHEAPER = Split(total_fen=s.TOTAL_FEN, fund_fen=9_000, account_fen=500, cash_fen=500)
PARTLY = {"no": s.SPLIT, "yes": s.SPLIT, "dearer": OTHER, "cheaper": CHEAPER}


class Road(RuleBasedStateMachine):
    """One order through claim, with everybody around it."""

    def __init__(self) -> None:
        super().__init__()
        self.story = s.Story()
        self.books = Books()
        self.dispatch, self.delivery = Dispatch(), Delivery()
        self.inbox: dict[str, deque[Event]] = {
            name: deque() for name in ("review", "dispatch", "delivery")
        }
        self.to_dispatch: dict[str, deque[Event]] = {"claim": deque(), "delivery": deque()}
        self.to_delivery: dict[str, deque[Event]] = {"claim": deque(), "dispatch": deque()}
        self.told = 0
        self.cancels = 0
        self.kept = s.SPLIT
        self.approved = False

    @initialize(
        insured=st.sampled_from([True, True, False]),
        ceiling=st.sampled_from([50_000, 50_000, 0, None]),
        self_pay=st.sampled_from([None, True, False]),
        first=st.sampled_from(["approved"] * 10 + ["rejected", "cancelled"]),
        partly=st.sampled_from(sorted(PARTLY)),
    )
    def begin(
        self,
        insured: bool,
        ceiling: int | None,
        self_pay: bool | None,
        first: str,
        partly: str,
    ) -> None:
        self.delivery.partly, self.kept = partly != "no", PARTLY[partly]
        message: Event = {
            "approved": s.approved(insured=insured, share_max_fen=ceiling, self_pay=self_pay),
            "rejected": s.rejected(),
            "cancelled": s.review_cancelled(),
        }[first]
        self.inbox["review"].append(message)
        self.approved = first == "approved"

    @precondition(lambda self: self.approved and self.cancels < CANCELS_MAX)
    @rule(cause=st.sampled_from(CancelCause))
    def cancel(self, cause: CancelCause) -> None:
        self.cancels += 1
        self.inbox["review"].append(s.cancel(cause))

    @rule(topic=st.sampled_from(["review", "dispatch", "delivery"]))
    def claim_reads(self, topic: str) -> None:
        self._claim_reads(topic)

    def _claim_reads(self, topic: str) -> bool:
        """The head of a topic; an early one stays there, as in the shell."""
        if not self.inbox[topic]:
            return False
        decision = self.story.hear(self.inbox[topic][0])
        assert decision.verdict is not Verdict.INVALID, (self.inbox[topic][0], decision.detail)
        if decision.verdict is Verdict.EARLY:
            return False
        self.inbox[topic].popleft()
        self._tell()
        return True

    @rule(
        source=st.sampled_from(["claim", "delivery"]),
    )
    def dispatch_reads(self, source: str) -> None:
        self._dispatch_reads(source)

    def _dispatch_reads(self, source: str) -> bool:
        queue = self.to_dispatch[source]
        if not queue:
            return False
        self._from_dispatch(self.dispatch.hear(queue.popleft()))
        return True

    @rule(source=st.sampled_from(["claim", "dispatch"]))
    def delivery_reads(self, source: str) -> None:
        self._delivery_reads(source)

    def _delivery_reads(self, source: str) -> bool:
        queue = self.to_delivery[source]
        if not queue:
            return False
        self._from_delivery(self.delivery.hear(queue.popleft()))
        return True

    @rule()
    def dispatch_acts(self) -> None:
        self._dispatch_acts()

    def _dispatch_acts(self) -> bool:
        acted = self.dispatch.act()
        self._from_dispatch(acted)
        return bool(acted)

    @rule(good=st.booleans())
    def delivery_acts(self, good: bool) -> None:
        self._delivery_acts(good)

    def _delivery_acts(self, good: bool) -> bool:
        before = self.delivery.step
        self._from_delivery(self.delivery.act(good=good))
        return self.delivery.step != before

    @precondition(lambda self: self.story.calls)
    @rule(
        outcome=st.sampled_from([DONE, DONE, DONE, REFUSED, UNKNOWN]),
        happened=st.booleans(),
        twist=st.sampled_from(TWISTS),
    )
    def call_answered(self, outcome: CallOutcome, happened: bool, twist: str) -> None:
        call = self.story.calls[0]
        if call.kind == "capture" and self.story.state.basis is Basis.INSURED:
            assert self.story.state.attempt is not None
            assert self.story.state.attempt.settlement_id, "nothing is captured unsettled"
        if (
            outcome is REFUSED
            and call.kind == "capture"
            and call.request["hold_ref"] in (self.books.captured)
        ):
            # A provider that captured cannot deny it when asked again.
            outcome = DONE
        if outcome is DONE or (outcome is UNKNOWN and happened):
            self.books.act(call.kind, call.ref, call.request)
        split = self._split_told(call.kind, twist)
        code = twist if call.kind == "settle" else "no"
        response = s.done(call.kind, split) if outcome is DONE else {"code": code}
        self.story.apply(CallAnswered(call.kind, call.ref, outcome, response))
        self._tell()

    def _split_told(self, kind: str, twist: str) -> Split:
        """Of kept lines the share may honestly be another; else only a wrong payer says so."""
        attempt = self.story.state.attempt
        reducing = attempt is not None and attempt.step is Step.REDUCING
        usual = attempt.split if reducing and attempt is not None else None
        if kind == "settle" and usual is not None:
            return usual
        if kind == "presettle" and reducing:
            return self.kept
        return OTHER if kind == "settle" and twist == "wrong" else s.SPLIT

    @rule(steps=st.integers(1, 30))
    def time_passes(self, steps: int) -> None:
        """All goes well for a while, so that what follows meets every stage."""
        for _ in range(steps):
            self._drain_once()

    @precondition(lambda self: self.story.timers)
    @rule()
    def timer_fires(self) -> None:
        timer = next(iter(self.story.timers.values()))
        del self.story.timers[timer.kind, timer.ref]
        self.story.apply(TimerFired(timer.kind, timer.ref, timer.due_at))
        self._tell()

    @precondition(lambda self: self.story.state.dispute)
    @rule(decision=st.sampled_from(DisputeDecision))
    def operator_decides(self, decision: DisputeDecision) -> None:
        attempt = self.story.state.attempt
        if attempt is not None and attempt.step is Step.REDUCING:
            decision = DisputeDecision.TAKE_THEIRS
        dispute = self.story.state.dispute
        assert dispute is not None
        reason = "compared by telephone"
        command = DecideDispute(
            order_id=ORDER_ID, ref=dispute.ref, decision=decision, reason=reason
        )
        self.story.apply(command, OPERATOR)
        self._tell()

    @precondition(lambda self: self.story.state.ask)
    @rule(option=st.integers(0, 1))
    def patient_answers(self, option: int) -> None:
        assert self.story.state.ask is not None
        self.story.ask(self.story.state.ask.options[option])
        self._tell()

    @invariant()
    def closed_at_most_once_and_last(self) -> None:
        closed = self.story.of(OrderClosed)
        assert len(closed) <= 1
        if closed:
            at = self.story.facts.index(closed[0])
            after = [fact for fact in self.story.facts[at + 1 :] if isinstance(fact, Event)]
            assert all(isinstance(fact, CancelAnswered) for fact in after)
            assert not self.story.calls
            assert not self.story.timers

    @invariant()
    def every_transfer_sums_to_zero(self) -> None:
        for fact in self.story.facts:
            transfer = transfer_of(fact)
            assert transfer is None or sum(fen for _, fen in transfer.entries) == 0

    def teardown(self) -> None:
        for _ in range(STEPS_MAX):
            if not self._drain_once():
                break
        assert self.story.state.phase is Phase.CLOSED, self.story.state
        assert not any(self.inbox.values())
        self._check_money()

    def _drain_once(self) -> bool:
        moved = [self._claim_reads(topic) for topic in self.inbox]
        moved += [self._dispatch_reads(source) for source in self.to_dispatch]
        moved += [self._delivery_reads(source) for source in self.to_delivery]
        if self.story.calls:
            self.call_answered(DONE, True, "no")
            return True
        if self.story.timers:
            self.timer_fires()
            return True
        if self.story.state.dispute and not any(moved):
            self.operator_decides(DisputeDecision.ASK_AGAIN)
            return True
        moved += [self._dispatch_acts(), self._delivery_acts(True)]
        return any(moved)

    def _check_money(self) -> None:
        ours: Counter[Account] = Counter()
        for fact in self.story.facts:
            transfer = transfer_of(fact)
            for account, fen in transfer.entries if transfer else ():
                ours[account] += fen
        [closed] = self.story.of(OrderClosed)
        if closed.outcome is not Outcome.DELIVERED:
            assert not any(ours.values()), ours
            assert not self.books.settled
            assert not self.books.held
            assert not self.books.captured
            return
        settled = [*self.story.of(ClaimSettled), *self.story.of(ClaimReduced)][-1].split
        made_good = sum(fact.fen for fact in self.story.of(MadeGood))
        assert ours[Account.PHARMACY] == settled.total_fen
        assert ours[Account.PLATFORM] == -made_good
        assert ours[Account.CLEARING] == 0
        assert ours[Account.PATIENT] == made_good - settled.cash_fen
        assert len(self.books.settled) == (1 if settled.fund_fen else 0)
        assert len(self.books.captured) == len(self.books.held) == 1
        undone = {fact.attempt for fact in self.story.of(ClaimUndone)}
        assert closed.attempt not in undone

    def _tell(self) -> None:
        """What claim published goes to its readers, once each."""
        for fact in self.story.facts[self.told :]:
            if isinstance(fact, ClaimAuthorised | ClaimDeclined | OrderClosed | CancelForwarded):
                self.to_dispatch["claim"].append(fact)
            if isinstance(fact, ClaimDeclined | ClaimPriced | ClaimSettled | OrderClosed):
                self.to_delivery["claim"].append(fact)
        self.told = len(self.story.facts)

    def _from_dispatch(self, facts: list[Event]) -> None:
        for fact in facts:
            if not isinstance(fact, CancelForwarded):
                self.inbox["dispatch"].append(fact)
            if isinstance(fact, CancelForwarded | PharmacyAssigned):
                self.to_delivery["dispatch"].append(fact)

    def _from_delivery(self, facts: list[Event]) -> None:
        for fact in facts:
            self.inbox["delivery"].append(fact)
            if isinstance(fact, AttemptFailed | DeliveryCancelled):
                self.to_dispatch["delivery"].append(fact)


Road.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestRoad = Road.TestCase


WALKS = 600
# Weighed so that many orders come far before something breaks.
MOVES: dict[str, int] = {
    "claim_reads": 10,
    "dispatch_reads": 6,
    "delivery_reads": 6,
    "dispatch_acts": 3,
    "delivery_acts": 6,
    "call_answered": 12,
    "timer_fires": 2,
    "patient_answers": 2,
    "operator_decides": 2,
    "cancel": 1,
}


def test_random_walks_meet_everything() -> None:
    met: Counter[str] = Counter()
    for seed in range(WALKS):
        met.update(_walk(Random(seed)))
    ends = {f"closed {outcome.value}" for outcome in Outcome}
    notes = {
        "Disputed",
        "DisputeDecided",
        "Requoted",
        "SettlementUndone",
        "Refunded",
        "Released",
        "DoubtCleared",
        "ClaimUndone",
        "ClaimReduced",
        "MadeGood",
        "PartlyRefunded",
        "Patience",
    }
    missing = {name for name in ends | notes if met[name] == 0}
    assert not missing, (missing, met.most_common())


def _walk(random: Random) -> list[str]:
    road = Road()
    road.begin(
        insured=random.random() < 0.8,
        ceiling=random.choice([50_000, 50_000, 50_000, 0, None]),
        self_pay=random.choice([None, True, False]),
        first=random.choice(["approved"] * 30 + ["rejected", "cancelled"]),
        partly=random.choice(sorted(PARTLY)),
    )
    road.dispatch.last_max = random.choice([0, 1, 2, 3, 3])
    for move in random.choices(list(MOVES), list(MOVES.values()), k=150):
        _move(road, move, random)
        road.closed_at_most_once_and_last()
        road.every_transfer_sums_to_zero()
    road.teardown()
    closed = road.story.of(OrderClosed)[0].outcome.value
    return [f"closed {closed}", *(type(fact).__name__ for fact in road.story.facts)]


def _move(road: Road, move: str, random: Random) -> None:
    match move:
        case "claim_reads":
            road.claim_reads(random.choice(list(road.inbox)))
        case "dispatch_reads":
            road.dispatch_reads(random.choice(list(road.to_dispatch)))
        case "delivery_reads":
            road.delivery_reads(random.choice(list(road.to_delivery)))
        case "delivery_acts":
            road.delivery_acts(random.random() < 0.85)
        case "call_answered" if road.story.calls:
            refused = 6 if road.story.calls[0].kind == "settle" else 1
            outcome = random.choices([DONE, REFUSED, UNKNOWN], [12, refused, 2])[0]
            twist = random.choice(TWISTS if outcome is DONE else TWISTS[2:])
            road.call_answered(outcome, random.random() < 0.5, twist)
        case "timer_fires" if road.story.timers:
            road.timer_fires()
        case "operator_decides" if road.story.state.dispute:
            road.operator_decides(random.choice(list(DisputeDecision)))
        case "patient_answers" if road.story.state.ask:
            road.patient_answers(random.choice([0, 0, 1]))
        case "cancel" if road.approved and road.cancels < CANCELS_MAX and random.random() < 0.4:
            road.cancel(random.choice([CancelCause.PATIENT, CancelCause.EXPIRY]))
        case "dispatch_acts":
            road.dispatch_acts()
