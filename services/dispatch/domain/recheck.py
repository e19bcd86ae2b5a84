"""Which open offers give way when a count fell below what is reserved. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.dispatch.domain.candidates import Pair, packs_of
from services.dispatch.domain.state import Offer


@dataclass(frozen=True, slots=True)
class OpenPacks:
    """The packs an open offer reserves, by (pharmacy, product)."""

    packs: Mapping[Pair, int]

    @classmethod
    def of(cls, offer: Offer) -> "OpenPacks":
        """Summed over the offer's lines."""
        packs = packs_of(offer.prices)
        return cls({(offer.pharmacy_id, product): n for product, n in packs.items()})


def still_short(offers: Sequence[OpenPacks], free: Mapping[Pair, int]) -> list[bool]:
    """One after the other: an offer that gives way frees its packs for those behind it."""
    left = dict(free)
    result: list[bool] = []
    for offer in offers:
        short = any(left[pair] < 0 for pair in offer.packs)
        result.append(short)
        if short:
            for pair, packs in offer.packs.items():
                left[pair] += packs
    return result
