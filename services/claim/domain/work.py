"""One decision in the making: the facts so far, and the calls and timers that they bring."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from schemas.claim import (
    PatientAsked,
)
from schemas.message import Event
from services.claim.domain.checking import Known
from services.claim.domain.notes import (
    Called,
    Disputed,
    Rested,
    Woken,
)
from services.claim.domain.state import (
    Case,
    State,
    evolve,
)
from services.kit.decision import (
    ASK_TIMER,
    Call,
    Decision,
    DropTimer,
    Facts,
    Note,
    SetTimer,
    applied,
    ask_timer,
)

ASK_DEADLINE = timedelta(minutes=10)
AGAIN_TIMER = "again"
# A lease of the shell, in which an earlier call may still be on its way.
PAUSE_MIN = timedelta(seconds=30)
PAUSE_MAX = timedelta(minutes=10)
# A payer that does not answer is tried so long before the patient is asked what to do, and so much
# longer when the answer was to wait; in between every so often, as it may be back any moment.
PATIENCE = timedelta(minutes=2)
PATIENCE_CHOSEN = timedelta(minutes=15)
PAUSE_SILENT = timedelta(minutes=1)
SHARE_ASK = "share_above_consent"
SELF_PAY_ASK = "self_pay"
PAYER_DOWN_ASK = "payer_down"
# So long a person may take to decide on amounts that differ before operations are told.
DISPUTE_TIMER = "dispute"
DISPUTE_DEADLINE = timedelta(minutes=30)
TURN = "turn"
TURN_PAUSE = timedelta(seconds=2)


class Work:
    """Collects facts, calls and timers; the state is always that after the facts so far."""

    def __init__(self, state: State, now: datetime, facts: Facts, cause: str = "") -> None:
        self.state = state
        # Which outside call brought this about, should one have.
        self.cause = cause
        self.now = now
        self.given = facts
        self._facts: list[Event | Note] = []
        self._calls: list[Call] = []
        self._timers: list[SetTimer | DropTimer] = []

    @property
    def case(self) -> Case:
        """The order's own data; an order past NEW has them."""
        assert self.state.case is not None
        return self.state.case

    @property
    def known(self) -> Known | None:
        """What was looked up for this message."""
        found = self.given.found
        return found if isinstance(found, Known) else None

    def record(self, *facts: Event | Note) -> None:
        """Make facts true."""
        for fact in facts:
            self._facts.append(fact)
            self.state = evolve(self.state, fact)

    def call(self, kind: str, **request: Any) -> None:
        """Start an outside call, numbered by attempt and try."""
        attempt = self.state.attempt
        number = attempt.number if attempt else 0
        ref = f"{number}.{self.state.tries.get(kind, 0) + 1}"
        self.record(Called(kind=kind, ref=ref))
        order_number = self.case.order_number
        self._calls.append(
            Call(kind, ref, {"order_number": order_number, "attempt": number, **request})
        )

    def year_call(self, kind: str, **request: Any) -> None:
        """A call that moves the person's year: only one order of a person makes one at a time."""
        if self.known is None or self.known.free:
            self.call(kind, **request)
        else:
            self.rest(TURN, TURN_PAUSE, TURN_PAUSE)

    def rest(self, kind: str, most: timedelta = PAUSE_MAX, least: timedelta = PAUSE_MIN) -> None:
        """Pause before `kind` is called again; longer each time."""
        tries = self.state.tries.get(kind, 0)
        doublings = min(max(tries - 1, 0), 20)
        pause = max(min(PAUSE_MIN * 2**doublings, most), least)
        attempt = self.state.attempt
        ref = f"{kind}.{attempt.number if attempt else 0}.{tries}"
        self.record(Rested(ref=ref))
        self._timers.append(SetTimer(AGAIN_TIMER, self.now + pause, ref))

    def wake(self) -> None:
        """End a pause early: something more important came."""
        if self.state.rest:
            self._timers.append(DropTimer(AGAIN_TIMER, self.state.rest))
            self.record(Woken())

    def ask(
        self, kind: str, options: tuple[str, ...], facts: Mapping[str, str | int], default: str = ""
    ) -> None:
        """Ask the patient; without a word on it the last option is the default."""
        asked = PatientAsked(
            order_id=self.given.order_id,
            ask_id=self.given.ids[0],
            kind=kind,
            options=options,
            default=default or options[-1],
            deadline=self.now + ASK_DEADLINE,
            facts=dict(facts),
        )
        self.record(asked)
        self._timers.append(ask_timer(asked))

    def close_question(self) -> None:
        """The timer of the open question is no longer needed."""
        if self.state.ask:
            self._timers.append(DropTimer(ASK_TIMER, str(self.state.ask.ask_id)))

    def subject(self, kind: str) -> str:
        """What a dispute about the answer to this call is decided by."""
        return f"{kind}:{self.cause}"

    def dispute(self, disputed: Disputed) -> None:
        """Nothing goes on until a person decides, and operations hear of it if nobody does."""
        self.record(disputed)
        if self.state.dispute is not None:
            due_at = self.now + DISPUTE_DEADLINE
            self._timers.append(SetTimer(DISPUTE_TIMER, due_at, disputed.dispute.ref))

    def close_dispute(self) -> None:
        """Nobody need be told any more."""
        if self.state.dispute is not None:
            self._timers.append(DropTimer(DISPUTE_TIMER, self.state.dispute.ref))

    def decision(self, answer: Mapping[str, Any] | None = None) -> Decision:
        """What the shell shall make true."""
        return applied(*self._facts, timers=self._timers, calls=self._calls, answer=answer)
