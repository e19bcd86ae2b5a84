"""Orders that a plan must reckon with before they wait for an offer. Pure.

They are in review or claim, or only expected, because orders came ten and twenty minutes ago.
"""

from dataclasses import dataclass

import numpy as np

from schemas.values import Tier
from services.dispatch.domain import promise
from services.dispatch.domain.plan import Floats, Ints, Places, Row
from services.dispatch.domain.scoring import NEEDED_S

SLOT_S = promise.SLOT.total_seconds()
# The present slot and those after it.
SLOTS = 3
# What is older than this says nothing about the next minutes.
RECENT_S = 2 * SLOT_S
# Rules alone take seconds; who waits longer has a person's decision before him.
BY_RULES_S, BY_PERSON_S = 5.0, 45.0
RELEASED_SHARE = 0.95
EXPECTED_WORTH = 0.5
# So many of the nearest are looked at: for an order that is known, for one that is expected.
NEAR, NEAR_EXPECTED = 24, 10


@dataclass(frozen=True, slots=True)
class Known:
    """An order and who passes every gate but capacity, nearest first."""

    numbers: Ints
    metres: Ints
    tier: Tier
    fixed_s: float


def foreseen(known: Known, waited_s: float) -> Row:
    """It is in review or claim, for so long."""
    coming_s = BY_RULES_S if waited_s < 3 * BY_RULES_S else BY_PERSON_S
    return _coming(known, coming_s, RELEASED_SHARE, NEAR)


def expected(known: Known, age_s: float, into_slot_s: float) -> Row | None:
    """One like it in the next slots, as it was released `age_s` ago; None when that is past."""
    coming_s = (SLOT_S if age_s < SLOT_S else 2 * SLOT_S) - age_s
    if not 0 < coming_s < 2 * SLOT_S - into_slot_s:
        return None
    return _coming(known, coming_s, EXPECTED_WORTH, NEAR_EXPECTED)


def places(left: Ints, capacity: Ints, into_slot_s: float, keeps: Floats | None = None) -> Places:
    """What is left of the present slot, and the slots after it, which nobody has used yet."""
    starts = np.array([n * SLOT_S - into_slot_s for n in range(SLOTS)])
    return Places(np.stack([left] + [capacity] * (SLOTS - 1)), starts, SLOT_S, keeps)


def _coming(known: Known, at_s: float, worth: float, near: int) -> Row:
    due_s = at_s + 60 * promise.MINUTES[known.tier]
    return Row(
        known.numbers[:near],
        known.metres[:near],
        at_s,
        due_s,
        due_s - NEEDED_S[known.tier],
        known.fixed_s,
        worth,
        firm=False,
    )
