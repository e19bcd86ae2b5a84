"""Whole fen out of exact figures. An exact figure is an integer of millionths of a fen."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

MILLION = 1_000_000


class Rounding(StrEnum):
    """How an exact figure becomes whole fen."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    DOWN = "down"


def half_up(exact: int) -> int:
    """The nearest fen; a half goes up. `exact` is not negative."""
    return (exact + MILLION // 2) // MILLION


def half_even(exact: int) -> int:
    """The nearest fen; a half goes to the even one."""
    fen, rest = divmod(2 * exact + MILLION, 2 * MILLION)
    return fen - (1 if rest == 0 and fen % 2 else 0)


def down(exact: int) -> int:
    """The fen that are whole."""
    return exact // MILLION


ROUND: Mapping[Rounding, Callable[[int], int]] = {
    Rounding.HALF_UP: half_up,
    Rounding.HALF_EVEN: half_even,
    Rounding.DOWN: down,
}


def spread(total: int, exact: Sequence[int]) -> list[int]:
    """`total` fen over parts whose exact figures sum to about it: largest remainder, ties first.

    No part gets more than its exact figure rounded up. Raises ValueError when they cannot sum.
    """
    parts = [figure // MILLION for figure in exact]
    missing = total - sum(parts)
    if not missing:
        return parts
    by_rest = sorted(range(len(parts)), key=lambda i: (-(exact[i] % MILLION), i))
    able = [i for i in by_rest if exact[i] % MILLION]
    if missing < 0 or missing > len(able):
        raise ValueError(f"{total} fen cannot be spread over {sum(exact) / MILLION} exact fen")
    for i in able[:missing]:
        parts[i] += 1
    return parts


def share(total: int, weights: Sequence[int]) -> list[int]:
    """`total` fen by weights that sum to at least it: largest remainder, ties first."""
    whole = sum(weights)
    if total == whole:
        return list(weights)
    if not total or not whole:
        return [0] * len(weights)
    if len(weights) == 1:
        return [total]
    parts = [total * weight // whole for weight in weights]
    missing = total - sum(parts)
    if not missing:
        return parts
    rests = [total * weight % whole for weight in weights]
    for _ in range(missing):
        # The first of equal ones; fewer fen are missing than there are parts.
        i = rests.index(max(rests))
        parts[i] += 1
        rests[i] = -1
    return parts
