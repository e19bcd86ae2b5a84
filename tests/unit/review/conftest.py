"""The domain's tests have pharmacists of any name: in their city nobody has written a roster."""

from collections.abc import Iterator
from functools import cache

import pytest

from services.review.rules import Pack
from services.review.rules.shelf import Packs, installed, stand
from tests.unit.review.examples import CITY


@cache
def without_roster() -> Packs:
    """What is installed, with a pack of the examples' city that lets pass what the rules clear."""
    here = installed()
    content = here.chosen(CITY).content
    own = {**content["pack"], "name": "examples", "cities": [CITY]}
    desk = {**content["desk"], "roster": {}, "only_roster": False}
    pack = Pack({**content, "pack": own, "desk": desk})
    return Packs((*here.packs, pack), here.vectors, here.where)


@pytest.fixture(autouse=True)
def desk_without_roster() -> Iterator[None]:
    """Stands before each test; whatever a test puts up goes with it."""
    stand(without_roster())
    yield
    stand(installed())
