"""What the store looks up before a decision."""

from dataclasses import dataclass

from services.dispatch.domain.candidates import Match
from services.dispatch.domain.choose import Why


@dataclass(frozen=True, slots=True)
class Matched:
    """For a due match: the result under the city's lease."""

    match: Match
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class NotOurs:
    """For a due match: this worker does not hold the city's lease, nothing may be offered."""


@dataclass(frozen=True, slots=True)
class Recounted:
    """For a recheck: whether a count still lies below what is reserved for the offer."""

    short: bool
