"""What every question to a case is made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.review.rules.case import Drug, Hit
from services.review.rules.subject import Subject

Hits = Iterator[Hit]


class Figures(BaseModel):
    """The numbers and lists of one rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def sets(self) -> frozenset[str]:
        """The classes of drugs it names; a pack that does not define them is refused."""
        return frozenset()

    def pairs_of_classes(self) -> tuple[tuple[str, str], ...] | None:
        """The pairs of classes of which it needs one to speak; None where it is about others."""
        return None


class Maximum(Figures):
    """One upper bound."""

    maximum: int


@dataclass(frozen=True, slots=True)
class Check:
    """A question and the figures it needs.

    `touches` tells by a line's drug alone whether it can speak of it, and where it is `classed` it
    can speak of the classes that its figures name: of other lines it is not asked. `needs` are the
    traits of a case (`traits`) of which it needs one, or how its figures tell them (0: none).
    `within` tells the days of supply that it never minds.
    """

    figures: type[Figures]
    ask: Callable[[Subject, Any], Hits]
    touches: Callable[[Drug, Any], bool] | None = None
    classed: bool = False
    needs: int | Callable[[Any], int] = 0
    within: Callable[[Any], int] | None = None

    def traits(self, figures: Any) -> int:
        """The traits of which a case needs one to be asked; 0 where every case is."""
        return self.needs if isinstance(self.needs, int) else self.needs(figures)
