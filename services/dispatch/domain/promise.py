"""Policy: minutes promised, what a tier falls back to, how long an offer stands. Plain data.

Below the last tier on the clock stands only what the patient agrees to: an appointment, then the
counter of a pharmacy nearby.
"""

from datetime import datetime, timedelta

from schemas.values import Tier

MINUTES: dict[Tier, int] = {
    Tier.MIN_30: 30,
    Tier.MIN_60: 60,
    Tier.EMERGENCY: 45,
    Tier.CITYWIDE: 180,
}
NEXT_TIER: dict[Tier, Tier] = {
    Tier.MIN_30: Tier.MIN_60,
    Tier.MIN_60: Tier.CITYWIDE,
    Tier.EMERGENCY: Tier.CITYWIDE,
}
OFFER_STANDS: dict[Tier, timedelta] = {
    Tier.MIN_30: timedelta(seconds=90),
    Tier.MIN_60: timedelta(seconds=180),
    Tier.EMERGENCY: timedelta(seconds=90),
    Tier.CITYWIDE: timedelta(seconds=180),
    Tier.SCHEDULED: timedelta(seconds=180),
    Tier.PICK_UP: timedelta(seconds=180),
}
# Any pharmacy of the city, however far, that is open when it is asked.
ANYWHERE = frozenset({Tier.CITYWIDE, Tier.SCHEDULED})
# How far a patient is asked to go, until a pack says otherwise; as the crow flies.
COLLECT_M = 3_000
# From the moment a pharmacy is asked until the parcel lies ready at its counter.
READY_WITHIN = timedelta(minutes=30)
CITYWIDE_OPEN_FOR = timedelta(minutes=15)
# So long the pharmacist must still be there, to confirm and to see the parcel packed.
DUTY_STAYS = timedelta(minutes=15)
RETRY_AFTER = timedelta(minutes=5)
# Who waits for a place is looked at again so often, and when the next slot begins.
LOOK_AGAIN = timedelta(seconds=10)
SLOT = timedelta(minutes=10)
OFFERS_MAX = 10
ATTEMPTS_MAX = 5


def due(tier: Tier, authorised_at: datetime) -> datetime:
    """When the parcel must be at the door; every tier counts from authorisation."""
    return authorised_at + timedelta(minutes=MINUTES[tier])


def ladder(tier: Tier) -> tuple[Tier, ...]:
    """The tier and what it falls back to, in order."""
    steps = [tier]
    while steps[-1] in NEXT_TIER:
        steps.append(NEXT_TIER[steps[-1]])
    return tuple(steps)


def open_until(tier: Tier, due_at: datetime, now: datetime) -> datetime:
    """How long a pharmacy must stay open to take the order."""
    if tier in ANYWHERE:
        return now + CITYWIDE_OPEN_FOR
    return max(due_at, now)


def duty_until(tier: Tier, until: datetime, now: datetime) -> datetime:
    """How long its pharmacist must stay; `until` is how long the pharmacy must be open.

    At the counter the pharmacist hands it out, so as long as it lies there.
    """
    return until if tier is Tier.PICK_UP else min(until, now + DUTY_STAYS)


def slot_of(now: datetime) -> datetime:
    """Start of the ten-minute slot whose capacity an offer uses."""
    return now.replace(minute=now.minute - now.minute % 10, second=0, microsecond=0)


def look_again(now: datetime) -> datetime:
    """When an order that only lacks a place is looked at again."""
    return min(now + LOOK_AGAIN, slot_of(now) + SLOT)
