"""A parcel that the patient collects: handed out against a code, or it stays with the pharmacy."""

import hmac
from dataclasses import dataclass
from datetime import datetime

from schemas.delivery import HandOut
from services.delivery.domain.desk import ended, own, shown
from services.delivery.domain.policy import WRONG_CODES_MAX, WRONG_CODES_PAUSE
from services.delivery.domain.ride import delivered_answer, taken
from services.delivery.domain.state import Attempt, State, Step
from services.kit.decision import Decision, Facts, invalid, stale


@dataclass(frozen=True, slots=True)
class WrongCodes:
    """How often an attempt was not opened since the last pause, and when the last time was."""

    tries: int
    last_at: datetime

    @property
    def pause_ends(self) -> datetime | None:
        """Until then no code is looked at, not even the right one."""
        return self.last_at + WRONG_CODES_PAUSE if self.tries >= WRONG_CODES_MAX else None

    def paused(self, now: datetime) -> bool:
        """Whether it stands still now."""
        return self.pause_ends is not None and now < self.pause_ends


def counted(
    state: State, command: HandOut, known: WrongCodes | None, now: datetime
) -> WrongCodes | None:
    """What is known after a code that does not open this parcel; None for what is not counted.

    Who does not hold the token of the attempt cannot use the tries up.
    """
    attempt = state.last
    if attempt is None or not attempt.kept or attempt.number != command.attempt:
        return None
    if not hmac.compare_digest(shown(command), attempt.token_sha256) or _opens(attempt, command):
        return None
    if known is None or (known.pause_ends is not None and not known.paused(now)):
        return WrongCodes(1, now)
    return None if known.paused(now) else WrongCodes(known.tries + 1, now)


def _opens(attempt: Attempt, command: HandOut) -> bool:
    return hmac.compare_digest(command.code.strip().encode(), attempt.code.encode())


def hand_out(state: State, command: HandOut, now: datetime, facts: Facts) -> Decision:
    """Released, the token of the attempt and the code of the patient: the parcel changes hands."""
    attempt = own(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    if not attempt.at_counter:
        detail = "a courier brings this parcel; nobody collects it"
        return invalid("not_for_collection", detail)
    if attempt.step is Step.DELIVERED and attempt.delivered_at is not None:
        answer = delivered_answer(facts, attempt, attempt.delivered_at, attempt.late)
        return stale("handed out before", answer)
    if attempt.step is Step.RETURNED:
        return invalid("already_returned", "nobody collected it in time; the money went back")
    if attempt.step is not Step.RELEASED:
        detail = f"the parcel is {attempt.step}: it may leave only after the settlement"
        return ended(attempt) or invalid("not_released", detail)
    if isinstance(facts.found, WrongCodes) and facts.found.paused(now):
        return _paused(facts.found)
    if not _opens(attempt, command):
        return invalid("code_mismatch", "this is not the code of this parcel", field="code")
    late = state.broken(attempt.promised_at)
    return taken(state, attempt, command.refused, now, facts, late=late)


def _paused(known: WrongCodes) -> Decision:
    until = known.pause_ends.isoformat(timespec="seconds") if known.pause_ends else ""
    detail = f"{WRONG_CODES_MAX} codes were wrong; the next one is looked at from {until} on"
    return invalid("too_many_codes", detail, field="code", status=429)
