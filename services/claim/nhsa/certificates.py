"""Whether the number of a certificate that a payer names is that of the person who was asked for.

Provinces may blank out digits in their answers (`310***********1234`). Which character stands for
one is said in the row of the dialect, never guessed.
"""

# What blanks look like; in a row without a blank of its own such a number is not readable.
BLANKS = frozenset("*＊#•●")


class Unreadable(ValueError):
    """The number is blanked out in a way that the dialect does not know."""


def same_certificate(told: str, ours: str, blank: str) -> bool:
    """Compares what is not blanked out; a number that is not told at all says nothing.

    Raises Unreadable.
    """
    told, ours = told.strip().upper(), ours.strip().upper()
    if not told or told == ours:
        return True
    if blank and blank in told:
        if len(told) != len(ours):
            raise Unreadable("blanks stand for more or fewer characters than they are")
        pairs = zip(told, ours, strict=True)
        return all(seen in (blank, meant) for seen, meant in pairs)
    if not BLANKS.isdisjoint(told):
        raise Unreadable("blanked out, but the dialect has no certno_blank")
    return False
