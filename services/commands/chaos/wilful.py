"""Robots that do as their profile says, but for the orders that a fault has chosen."""

from dataclasses import dataclass, field, replace

from services.sandbox.fates import Answer, Fates, Offered


@dataclass(frozen=True)
class Wilful(Fates):
    """The draws of one seed and profile; some pharmacies answer as they are told."""

    told: dict[str, Answer] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)

    def offer(self, number: str, shop: str, nth: int) -> Offered:
        """The drawn answer, unless this order's pharmacies were told another for its first offer.

        Once the chosen misdeed is done, they are themselves again, so that the order can end.
        """
        drawn = super().offer(number, shop, nth)
        answer = self.told.pop(number, drawn.answer)
        return replace(drawn, answer=answer, twice=drawn.twice or number in self.twice)
