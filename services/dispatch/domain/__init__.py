"""Decisions about one order's promise, offers and assignment."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from schemas.claim import CancelForwarded, ClaimAuthorised, ClaimDeclined, OrderClosed
from schemas.delivery import AttemptFailed, DeliveryCancelled, ParcelSealed, PromiseBroken
from schemas.dispatch import AcceptOffer, AnswerAsk, DeclineOffer
from schemas.network import CityConfigured, PharmacyChanged, StockCounted
from schemas.prescription import PrescriptionIssued
from services.dispatch.domain import asks, matching, offers, pressure, road, shortage, tiers
from services.dispatch.domain.state import State, evolve, initial
from services.kit.decision import (
    ASK_TIMER,
    Decision,
    Facts,
    Message,
    TimerFired,
    applied,
    invalid,
)

__all__ = ["HANDLERS", "TIMERS", "State", "decide", "evolve", "initial"]


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """Route a message to its handler."""
    if isinstance(message, TimerFired):
        handler = TIMERS.get(message.kind)
        name = f"timer {message.kind}"
    else:
        handler = HANDLERS.get(type(message))
        name = type(message).__name__
    if handler is None:
        return invalid("unknown_message", f"dispatch does not take {name}")
    return handler(state, message, now, facts)


def reference(state: State, event: object, now: datetime, facts: Facts) -> Decision:
    """Facts about pharmacies and cities go to tables; no order decides on them here."""
    return applied()


Handler = Callable[[State, Any, datetime, Facts], Decision]

HANDLERS: dict[type[Message], Handler] = {
    PrescriptionIssued: road.issued,
    ClaimAuthorised: road.authorised,
    ClaimDeclined: road.declined,
    CancelForwarded: road.cancel,
    OrderClosed: road.closed,
    AttemptFailed: road.failed,
    ParcelSealed: road.sealed,
    PromiseBroken: road.told_late,
    DeliveryCancelled: road.delivery_cancelled,
    AcceptOffer: offers.accept,
    DeclineOffer: offers.decline,
    AnswerAsk: asks.answer_ask,
    CityConfigured: reference,
    PharmacyChanged: reference,
    StockCounted: reference,
}
TIMERS: dict[str, Handler] = {
    matching.MATCH: matching.match_fired,
    matching.OFFER: offers.offer_fired,
    tiers.PROMISE: matching.promise_fired,
    matching.RECHECK: matching.recheck_fired,
    ASK_TIMER: asks.ask_fired,
    shortage.LOOK: shortage.look_fired,
    shortage.KEEP: shortage.keep_fired,
    pressure.TELL: pressure.told,
}
