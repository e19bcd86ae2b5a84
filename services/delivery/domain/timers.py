"""The timers of an attempt; `ref` is its number. Silence of a person is put off by an outage."""

from datetime import datetime

from services.delivery.domain.policy import CONFIRM_WITHIN, PICK_UP_WITHIN, SEAL_WITHIN
from services.delivery.domain.state import Attempt
from services.kit.decision import DropTimer, SetTimer

PROMISE = "promise"
CONFIRM = "confirm"
SEAL = "seal"
PICK_UP = "pick_up"


def promise(attempt: Attempt) -> SetTimer:
    """At the promised time, which no outage of ours puts off."""
    return SetTimer(PROMISE, attempt.promised_at, str(attempt.number))


def confirm(attempt: Attempt, now: datetime) -> SetTimer:
    """The pharmacist is to confirm."""
    return _silence(CONFIRM, attempt, now + CONFIRM_WITHIN)


def seal(attempt: Attempt, now: datetime) -> SetTimer:
    """The pharmacy is to pick, scan and seal.

    What is not packed when the time to collect it ends was never ready: it goes back unpaid.
    """
    latest = now + SEAL_WITHIN
    if attempt.at_counter:
        latest = min(latest, max(now, attempt.due_at))
    return _silence(SEAL, attempt, latest)


def pick_up(attempt: Attempt, now: datetime) -> SetTimer:
    """A courier is to take the parcel, for an agreed time not long before it begins.

    Where the patient collects it, until the end of that time.
    """
    if attempt.at_counter:
        return _silence(PICK_UP, attempt, max(now, attempt.due_at))
    begins = max(now, attempt.not_before or now)
    return _silence(PICK_UP, attempt, begins + PICK_UP_WITHIN)


def drop(kind: str, attempt: Attempt) -> DropTimer:
    """One of them is answered."""
    return DropTimer(kind, str(attempt.number))


def drop_all(attempt: Attempt) -> tuple[DropTimer, ...]:
    """The attempt has ended."""
    return tuple(drop(kind, attempt) for kind in (PROMISE, CONFIRM, SEAL, PICK_UP))


def _silence(kind: str, attempt: Attempt, due_at: datetime) -> SetTimer:
    return SetTimer(kind, due_at, str(attempt.number), answered_over_http=True)
