"""What the store looks up before a decision."""

from dataclasses import dataclass
from uuid import UUID

from services.dispatch.domain.candidates import Match
from services.dispatch.domain.choose import Why
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.parallel import Beside
from services.dispatch.domain.state import Terms


@dataclass(frozen=True, slots=True)
class Matched:
    """For a due match: the result under the city's lease."""

    match: Match
    why: Why | None = None
    # Each line could be filled somewhere, though not all at one pharmacy.
    apart: bool = False
    beside: Beside | None = None
    # So many orders in review or claim the tick reckoned with.
    foreseen: int = 0
    # Where nobody can deliver on the clock: what may be put to the patient, the best first.
    terms: tuple[Terms, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """For an order that claim lets through: its city, and whose place in a line it keeps."""

    city: City | None = None
    keeps: UUID | None = None


@dataclass(frozen=True, slots=True)
class NotOurs:
    """For a due match: this worker does not hold the city's lease, nothing may be offered."""


@dataclass(frozen=True, slots=True)
class Recounted:
    """For a recheck: whether a count still lies below what is reserved for the offer."""

    short: bool
