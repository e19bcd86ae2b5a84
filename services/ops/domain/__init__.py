"""The read side: folds the facts of all services into one view of an order, in any order."""

from services.ops.domain.audience import AUDIENCE, Audience, Found, Party
from services.ops.domain.decide import HANDLERS, decide
from services.ops.domain.view import Place, State, evolve, initial, place_of

__all__ = [
    "AUDIENCE",
    "HANDLERS",
    "Audience",
    "Found",
    "Party",
    "Place",
    "State",
    "decide",
    "evolve",
    "initial",
    "place_of",
]
