"""How often quotes were kept of late, and so which quantile to quote for the share meant. Pure.

The past foretells the next orders only as far as they are alike; dinner is not like lunch. So what
came of the last quotes is held against the share they were made for, and the next ones are made for
as much more or less (adaptive conformal inference, Gibbs and Candes 2021). Each quote is judged
when its time is over, not when its order ends: in a rush the quick orders end first, and would make
it look better than it is. It is held against the share it was made for, not against the one aimed
at, so what is not judged yet is not corrected twice, however many are on their way.
"""

from collections.abc import Container, Hashable
from heapq import heappop, heappush
from itertools import count
from math import inf

# As many of the last quotes count, older ones less and less.
REMEMBERED = 100
# A miss may be made half as likely as meant, no less: beyond that hardly an order speaks.
MISSED_LEAST = 0.5
SHARE_LEAST = 0.5


class Kept:
    """The quotes of one city and tier for one target share."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._short = 0.0
        self._turn: list[tuple[float, int, Hashable]] = []
        self._serial = count()
        self._shares: dict[Hashable, float] = {}
        self._ended: dict[Hashable, float] = {}
        self._gone: frozenset[Hashable] = frozenset()

    @property
    def share(self) -> float:
        """The share to quote for, so that the target's is kept."""
        most = 1 - (1 - self._target) * MISSED_LEAST
        least = min(SHARE_LEAST, self._target)
        return min(max(self._target + self._short, least), most)

    def quoted(self, order: Hashable, due_s: float) -> None:
        """An order was quoted this Unix time for `share`; only its first quote counts."""
        if order not in self._shares and due_s < inf:
            self._shares[order] = self.share
            heappush(self._turn, (due_s, next(self._serial), order))

    def ended(self, order: Hashable, ended_s: float) -> None:
        """It came to the door; infinite for one that was given up after its promise."""
        if order in self._shares:
            self._ended[order] = ended_s

    def until(self, now_s: float, on_their_way: Container[Hashable]) -> None:
        """Judge what was due by now.

        What is not on its way and whose end is not told by the next time either was withdrawn.
        """
        untold: list[tuple[float, int, Hashable]] = []
        while self._turn and self._turn[0][0] <= now_s:
            due_s, serial, order = heappop(self._turn)
            if order not in self._ended and order not in on_their_way:
                untold.append((due_s, serial, order))
                continue
            share, ended_s = self._shares.pop(order), self._ended.pop(order, inf)
            self._short += (share - (ended_s <= due_s) - self._short) / REMEMBERED
        for quote in untold:
            if quote[2] in self._gone:
                del self._shares[quote[2]]
            else:
                heappush(self._turn, quote)
        self._gone = frozenset(order for _, _, order in untold).intersection(self._shares)
