"""One order through claim, with everybody around it, as a machine whose moves somebody chooses.

Small models of dispatch and delivery react to claim's facts as their contracts say; the payer and
the payment provider keep books of their own, in which an unknown outcome may or may not have
happened, or happens later. Workers die before they commit, lose their lease, and repeat themselves.
"""

from collections import Counter, deque
from typing import Any
from uuid import UUID

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
from schemas.review import CancelForwarded as CancelFromReview
from schemas.values import CancelCause, Outcome
from services.claim.domain.notes import COMES_HOME, MadeGood, SettlementMade, SettlementUndone
from services.claim.domain.state import Phase, Step
from services.claim.domain.vouchers import NEW_VOUCHER
from services.claim.ledger import Account, transfer_of
from services.kit.decision import (
    Actor,
    Call,
    CallAnswered,
    CallOutcome,
    Message,
    TimerFired,
    Verdict,
)
from services.kit.spec import ORDER_ID
from tests.unit.claim import story as s
from tests.unit.claim.players import Books, Delivery, Dispatch

CANCELS_MAX = 2
STEPS_MAX = 400
DONE, REFUSED, UNKNOWN = CallOutcome.DONE, CallOutcome.REFUSED, CallOutcome.UNKNOWN
# What comes with an answer to a settlement: other amounts, or the reason of a refusal.
TWISTS = ("no", "no", "no", "wrong", "amounts_changed", "code_sold", "token_expired")
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
        # What had its effect, and may come again; calls that may still arrive somewhere; answers
        # of workers that had lost their lease by then.
        self.heard: list[Message] = []
        self.astray: list[Call] = []
        self.late: list[CallAnswered] = []
        self.acted: set[tuple[str, str]] = set()

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
        self.heard.append(self.inbox[topic].popleft())
        self._tell()
        return True

    def _apply(self, message: Message, actor: Actor | None = None) -> None:
        self.story.apply(message, actor)
        self.heard.append(message)
        self._tell()

    @precondition(lambda self: self.heard)
    @rule(nth=st.integers(0, 1_000))
    def duplicate(self, nth: int) -> None:
        """What comes a second time moves nothing; a cancellation is only answered once more."""
        message = self.heard[nth % len(self.heard)]
        decision = self.story.look(message)
        assert decision.verdict is not Verdict.EARLY
        moved = [fact for fact in decision.events if transfer_of(fact)]
        assert not moved, (message, decision)
        assert not decision.calls, (message, decision)
        again = isinstance(message, CancelFromReview)
        assert again or decision.verdict is not Verdict.APPLIED, (message, decision)

    @rule(topic=st.sampled_from(["review", "dispatch", "delivery"]))
    def crash(self, topic: str) -> None:
        """Whoever dies before the commit has done nothing, and the next one decides the same."""
        if not self.inbox[topic]:
            return
        message, before = self.inbox[topic][0], self.story.state
        assert self.story.look(message) == self.story.look(message)
        assert self.story.state == before

    @precondition(lambda self: self.story.calls)
    @rule()
    def lease_lost(self) -> None:
        """The call is made, its answer comes too late: another worker makes the same call."""
        call = self.story.calls[0]
        response = self._act(call, "no")
        self.late.append(CallAnswered(call.kind, call.ref, DONE, response))

    @precondition(lambda self: self.late)
    @rule()
    def late_answer(self) -> None:
        """As long as the call is open the epoch keeps it out, and later nothing waits for it."""
        answer, call = self.late.pop(0), self.story.state.call
        if call is None or (call.kind, call.ref) != (answer.kind, answer.ref):
            assert self.story.look(answer).verdict is Verdict.STALE

    @precondition(lambda self: self.astray)
    @rule()
    def arrives_late(self) -> None:
        """A call that was given up reaches the far side after all."""
        self._act(self.astray.pop(0), "no")

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
        if outcome is REFUSED and (call.kind, call.ref) in self.acted:
            # Its answer was given to a worker that had lost its lease.
            outcome = DONE
        code = twist if call.kind == "settle" or twist == "token_expired" else "no"
        response: dict[str, Any] = {"code": code}
        if outcome is DONE or (outcome is UNKNOWN and happened):
            response = self._act(call, twist)
        elif outcome is UNKNOWN:
            self.astray.append(call)
        told = response if outcome is not UNKNOWN else {}
        self._apply(CallAnswered(call.kind, call.ref, outcome, told))

    def _act(self, call: Call, twist: str) -> dict[str, Any]:
        """It takes effect at the far side, once; whoever repeats it gets the same answer."""
        split = self._split_told(call.kind, twist)
        self.acted.add((call.kind, call.ref))
        return self.books.act(call.kind, call.ref, call.request, s.done(call.kind, split))

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
        self._apply(TimerFired(timer.kind, timer.ref, timer.due_at))

    @precondition(lambda self: self.story.state.dispute)
    @rule(decision=st.sampled_from(DisputeDecision))
    def operator_decides(self, decision: DisputeDecision) -> None:
        attempt = self.story.state.attempt
        reducing = attempt is not None and attempt.step is Step.REDUCING
        if reducing and decision is DisputeDecision.DECLINE:
            decision = DisputeDecision.TAKE_THEIRS
        dispute = self.story.state.dispute
        assert dispute is not None
        if dispute.kind in COMES_HOME:
            decision = DisputeDecision.ASK_AGAIN
        reason = "compared by telephone"
        command = DecideDispute(
            order_id=ORDER_ID, ref=dispute.ref, decision=decision, reason=reason
        )
        self._apply(command, OPERATOR)

    @precondition(lambda self: self.story.state.ask)
    @rule(option=st.integers(0, 1))
    def patient_answers(self, option: int) -> None:
        assert self.story.state.ask is not None
        choice = self.story.state.ask.options[option]
        if choice == NEW_VOUCHER:
            self.story.renew()
        else:
            self.story.ask(choice)
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
        while self.astray:
            self.arrives_late()
        while self.late:
            self.late_answer()
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
            self._check_both_sides(ours)
            assert not any(ours.values()), ours
            assert not self.books.settled
            assert not self.books.used_fen
            assert not self.books.held
            assert not self.books.captured
            return
        self._check_both_sides(ours)
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

    def _check_both_sides(self, ours: Counter[Account]) -> None:
        """Fund, account and cash are paid once each, and the year is used up by just that."""
        assert ours[Account.FUND] == -self.books.fund_fen
        assert ours[Account.PERSONAL] == -self.books.account_fen
        assert ours[Account.PATIENT] == -self.books.cash_fen
        used: Counter[str] = Counter()
        for fact in self.story.facts:
            match fact:
                case SettlementMade():
                    used[fact.settlement_id] += fact.fund_fen + fact.account_fen
                case SettlementUndone():
                    used[fact.settlement_id] -= fact.fund_fen + fact.account_fen
                    # To the fen what it took, and never twice
                    assert used[fact.settlement_id] == 0
                case _:
                    pass
        assert {name for name, fen in used.items() if fen} == set(self.books.settled)
        assert sum(used.values()) == self.books.used_fen

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
