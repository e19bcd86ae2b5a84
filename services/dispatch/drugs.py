"""What may fill a line, and which licence it takes, by the catalogue of this process."""

from collections.abc import Iterable
from functools import cache

from schemas.values import OrderLine
from services.catalogue import catalogue
from services.catalogue.model import Control


def fills(lines: Iterable[OrderLine]) -> tuple[tuple[str, ...], ...]:
    """For each line the products that fill it as it is written: the same drug in the same pack."""
    return tuple(_same_packs(line.product_code) for line in lines)


def controlled(lines: Iterable[OrderLine]) -> frozenset[str]:
    """The classes of control that the lines belong to."""
    found = (_control(line.product_code) for line in lines)
    return frozenset(control for control in found if control)


def name(code: str) -> str:
    """Generic name, form and strength: equal for what may fill the same line; else the code."""
    item = catalogue().product(code)
    return code if item is None else " ".join(map(str, item.same_drug))


def cold_chain(code: str) -> bool:
    """Whether it is kept cold on every way; an unknown product is not."""
    item = catalogue().product(code)
    return item is not None and item.cold_chain


@cache
def _same_packs(code: str) -> tuple[str, ...]:
    """The written product first; the others by their code."""
    item = catalogue().product(code)
    if item is None:
        return (code,)
    others = sorted(
        other.product_code
        for other in catalogue().same_drug(item)
        if other.product_code != item.product_code
        # A pack of another size would be another quantity than was written.
        and other.units_per_pack == item.units_per_pack
        and (other.contents, other.ingredients) == (item.contents, item.ingredients)
        and (other.storage, other.control) == (item.storage, item.control)
    )
    return (code, *others)


@cache
def _control(code: str) -> str:
    item = catalogue().product(code)
    return "" if item is None or item.control is Control.NONE else item.control.value
