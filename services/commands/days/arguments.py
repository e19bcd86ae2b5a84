"""Numbers that days and benchmarks are asked with, as they are written on a command line."""

from argparse import ArgumentTypeError


def count(text: str) -> int:
    """One or more."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("must be at least 1")
    return number


def load(text: str) -> float:
    """Orders over places."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ArgumentTypeError("must be above 0")
    return number


def share(text: str) -> float:
    """Of all."""
    number = float(text)
    if not 0 <= number <= 1:
        raise ArgumentTypeError("must be from 0 to 1")
    return number


def loads(text: str) -> tuple[float, ...]:
    """Several, with commas."""
    return tuple(map(load, text.split(",")))


def shares(text: str) -> tuple[float, ...]:
    """Several, with commas."""
    return tuple(map(share, text.split(",")))
