"""How pharmacies answer offers, learnt from their own answers; who stays silent cools down. Pure.

Held in memory, by what one worker has decided: it makes choices better, nothing depends on it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from schemas.dispatch import OfferDeclined, OfferExpired, PharmacyAssigned
from schemas.message import Event
from services.dispatch.domain.city_index import CityIndex
from services.dispatch.domain.plan import KEEPS, Floats
from services.kit.decision import Note

# So many answers of all pharmacies weigh as much as what is taken for granted; of one, as all do.
ALL_SHRINK, OWN_SHRINK = 50.0, 20.0
# How much of an answer's weight is left after the next one.
ALL_FADES, OWN_FADES = 0.999, 0.97
# After so many silences in a row nobody is offered there first for a while.
SILENCES_MAX = 2
COOLS = timedelta(minutes=10)
KEEPS_COOLING = 0.1
# An accepted offer still ends in a give-back as often as is taken for granted.
ACCEPTS = 0.83


@dataclass(slots=True)
class _Own:
    said: float = 0.0
    accepted: float = 0.0
    silent: int = 0
    cools_until: datetime | None = None


class Answers:
    """What is known of each pharmacy that ever answered, or did not."""

    def __init__(self) -> None:
        self._own: dict[UUID, _Own] = {}
        self._said, self._accepted = 0.0, 0.0

    def learn(
        self, pharmacy_id: UUID, now: datetime, *, accepted: bool, silent: bool = False
    ) -> None:
        """One offer was answered, or expired without an answer."""
        own = self._own.setdefault(pharmacy_id, _Own())
        self._said = ALL_FADES * self._said + 1
        self._accepted = ALL_FADES * self._accepted + accepted
        own.said = OWN_FADES * own.said + 1
        own.accepted = OWN_FADES * own.accepted + accepted
        own.silent = own.silent + 1 if silent else 0
        own.cools_until = now + COOLS if own.silent >= SILENCES_MAX else None

    def see(self, event: Event | Note, now: datetime) -> None:
        """A fact of an offer; others say nothing here."""
        match event:
            case PharmacyAssigned():
                self.learn(event.pharmacy_id, now, accepted=True)
            case OfferDeclined():
                self.learn(event.pharmacy_id, now, accepted=False)
            case OfferExpired():
                self.learn(event.pharmacy_id, now, accepted=False, silent=True)
            case _:
                pass

    def accepts(self, pharmacy_id: UUID | None = None) -> float:
        """The chance that an offer is accepted: of anybody, or of one."""
        share = (self._accepted + ALL_SHRINK * ACCEPTS) / (self._said + ALL_SHRINK)
        own = self._own.get(pharmacy_id) if pharmacy_id else None
        if own is None:
            return share
        return (own.accepted + OWN_SHRINK * share) / (own.said + OWN_SHRINK)

    def cools(self, pharmacy_id: UUID, now: datetime) -> bool:
        """Whether it was silent again and again, and not long ago."""
        own = self._own.get(pharmacy_id)
        if own is None or own.cools_until is None:
            return False
        # Where the clock was set back, nobody cools down for longer than ten minutes.
        return now < own.cools_until <= now + COOLS

    def keeps(self, index: CityIndex, now: datetime) -> Floats:
        """For each pharmacy of a city the chance that an offer there ends in a parcel."""
        kept = KEEPS / ACCEPTS
        shares = np.full(len(index), kept * self.accepts())
        for pharmacy_id in self._own:
            number = index.number_of(pharmacy_id)
            if number is not None:
                cools = self.cools(pharmacy_id, now)
                shares[number] = KEEPS_COOLING if cools else kept * self.accepts(pharmacy_id)
        return shares
