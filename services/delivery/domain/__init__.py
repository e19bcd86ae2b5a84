"""An order at the pharmacy and on the road: confirmed, scanned, sealed, released, carried.

Nothing leaves unscanned or unpaid, and every attempt has exactly one end.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from schemas import claim, delivery, dispatch
from services.delivery.domain import counter, desk, fleets, ride, road
from services.delivery.domain.state import State, evolve, initial
from services.kit.decision import CallAnswered, Decision, Facts, Message, TimerFired, invalid

__all__ = ["HANDLERS", "State", "decide", "evolve", "initial"]


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """What one message means for one order."""
    handler = HANDLERS.get(type(message))
    if handler is None:
        return invalid("unknown_message", f"delivery does not act on {type(message).__name__}")
    decision = road.told_in_time(state, handler(state, message, now, facts), now, facts)
    return fleets.told(state, decision, facts)


HANDLERS: dict[type[Any], Callable[[State, Any, datetime, Facts], Decision]] = {
    dispatch.PharmacyAssigned: road.assigned,
    dispatch.CancelForwarded: road.cancel_forwarded,
    claim.ClaimPriced: road.priced,
    claim.ClaimSettled: road.settled,
    claim.ClaimDeclined: road.declined,
    claim.OrderClosed: road.closed,
    TimerFired: road.fired,
    CallAnswered: fleets.answered,
    delivery.ConfirmOrder: desk.confirm,
    delivery.SealParcel: desk.seal,
    delivery.GiveBack: desk.give_back,
    delivery.AssignCourier: ride.assign,
    delivery.PickUp: ride.pick_up,
    delivery.HandOver: ride.hand_over,
    delivery.HandOut: counter.hand_out,
    delivery.ReturnParcel: ride.bring_back,
}
