"""Claim's decisions: pure, one order at a time.

How a message stands to the state of its order: A applied, E early, S stale, X invalid.
`n` is the message's attempt, `last` the highest seen; an attempt is live until it is known to have
failed. "old" is n < last, "known" n <= last, "next" n = last + 1, "new" n > last, "open" not yet
sealed. Columns: unknown order, authorising, authorised without a live attempt, with one, an end
decided (money still out), closed.

| message           | new | auth. | none live            | live                      | end | shut |
| ----------------- | --- | ----- | -------------------- | ------------------------- | --- | ---- |
| ReviewApproved    | A   | X     | X                    | X                         | X   | S    |
| ReviewRejected    | A   | X     | X                    | X                         | X   | S    |
| ReviewCancelled   | A   | X     | X                    | X                         | X   | S    |
| CancelForwarded   | X   | A     | A passed on          | A passed on               | A   | A    |
| PharmacyAssigned  | E   | E     | next A, known S, X   | new E, else S             | S   | S    |
| DispatchExhausted | E   | E     | A                    | E                         | S   | S    |
| DispatchCancelled | E   | E     | last A, else X       | last E, else X            | S   | S    |
| ParcelSealed      | E   | E     | new E, last X, old S | new E, priced A, X, old S | S   | S    |
| ParcelDelivered   | E   | E     | new E, else X        | new E, settled A, else X  | X   | S    |
| ParcelReturned    | E   | E     | new E, else X        | new E, settled A, else X  | X   | S    |
| AttemptFailed     | E   | E     | new E, else S        | new E, last A, old S      | S   | S    |
| DeliveryCancelled | E   | E     | new E, last X, old S | new E, open A, X, old S   | S   | S    |

A cancellation of an ending or closed order is answered "already ended". Everywhere: AnswerAsk of
another tenant or an unknown order is X 404, of the open question A, repeated S, else X 409; a timer
or a call's answer that nothing waits for is S; DecideDispute is X 404, A, S and X 409 likewise, and
X 403 for anybody but the operator.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from schemas.claim import AnswerAsk, DecideDispute
from schemas.delivery import (
    AttemptFailed,
    DeliveryCancelled,
    ParcelDelivered,
    ParcelReturned,
    ParcelSealed,
)
from schemas.dispatch import DispatchCancelled, DispatchExhausted, PharmacyAssigned
from schemas.review import CancelForwarded, ReviewApproved, ReviewCancelled, ReviewRejected
from services.claim.domain import answers, handlers
from services.claim.domain.state import State, evolve, initial
from services.claim.domain.work import AGAIN_TIMER, DISPUTE_TIMER
from services.kit.decision import (
    ASK_TIMER,
    CallAnswered,
    Decision,
    Facts,
    Message,
    TimerFired,
    invalid,
)

__all__ = ["HANDLERS", "TIMERS", "State", "decide", "evolve", "initial"]

Handler = Callable[[State, Any, datetime, Facts], Decision]


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """The one way in; what is not in the tables below is invalid."""
    handler = HANDLERS.get(type(message))
    if isinstance(message, TimerFired):
        handler = TIMERS.get(message.kind)
    if handler is None:
        return invalid("not_consumed", f"claim does not act on {type(message).__name__}")
    return handler(state, message, now, facts)


TIMERS: Mapping[str, Handler] = {
    ASK_TIMER: handlers.answer_by_default,
    AGAIN_TIMER: answers.wake,
    DISPUTE_TIMER: handlers.escalate,
}
HANDLERS: Mapping[type, Handler] = {
    ReviewApproved: handlers.approve,
    ReviewRejected: handlers.reject,
    ReviewCancelled: handlers.cancel_reviewed,
    CancelForwarded: handlers.cancel,
    PharmacyAssigned: handlers.assign,
    DispatchExhausted: handlers.exhaust,
    DispatchCancelled: handlers.cancel_dispatch,
    ParcelSealed: handlers.seal,
    ParcelDelivered: handlers.deliver,
    ParcelReturned: handlers.bring_back,
    AttemptFailed: handlers.fail,
    DeliveryCancelled: handlers.cancel_delivery,
    AnswerAsk: handlers.answer_ask,
    DecideDispute: handlers.decide_dispute,
    CallAnswered: answers.answer_call,
}
