"""Which open offers give way when a count fell below what is reserved. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.dispatch.domain.candidates import Pair
from services.dispatch.domain.state import Offer


@dataclass(frozen=True, slots=True)
class OpenPacks:
    """The packs an open offer reserves, by (pharmacy, product)."""

    packs: Mapping[Pair, int]

    @classmethod
    def of(cls, offer: Offer) -> "OpenPacks":
        """Summed over the offer's lines."""
        total: dict[Pair, int] = {}
        for line in offer.prices:
            pair = offer.pharmacy_id, line.product_code
            total[pair] = total.get(pair, 0) + line.quantity
        return cls(total)


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
