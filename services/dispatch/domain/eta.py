"""How long an order takes to the door, as a quantile that keeps its word. Pure.

A model of the stages says how the time is spread. What came of earlier orders corrects it: the
hour of the day, how the last hours went, each pharmacy; and the rest by the quantile of what was
left unexplained (split conformal prediction), so that nine in ten means nine in ten. That is kept
in units of how far the last orders were off, so a calm day is not quoted by a wild one before it.
Which quantile that is follows how often the last quotes were kept (`kept`).
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import ceil, exp, inf, log, sqrt
from statistics import NormalDist

from services.dispatch.domain.kept import Kept
from services.dispatch.domain.scoring import PRIOR, Stages

# As many of the last orders count, or those of the last hours where these are more; with fewer
# than the least, what all cities have shown, or the model alone.
WINDOW = 2_000
WINDOW_S = 6 * 3_600.0
WINDOW_MAX = 20_000
SURGE_MAX = 40
LEAST = 200
HOURS = 24
# How fast what is older fades, and how far what rests on few orders is drawn to the whole.
LEVEL_OF = 30
SPREAD_OF = 100
HOUR_KEEPS = 0.9997
HOUR_SHRINKS = 20
PHARMACY_KEEPS = 0.95
PHARMACY_SHRINKS = 5
# An outlier moves an average no further than this.
LONGEST_S = 7_200.0
FARTHEST_S = 1_800.0
# The first ones were expected from nothing: how far they were off says nothing of later ones.
WARM_UP = 60
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Trip:
    """What is known of an order before it is offered; the hour is the local one."""

    metres: float
    lines: int
    cold: bool
    metres_a_second: float
    hour: int = 12
    pharmacy: Hashable = None


@dataclass(frozen=True, slots=True)
class Done:
    """An order that ended at a Unix time: seconds from authorisation to the door.

    Infinite for one that was given up after its promise: it counts as missed, else the share that
    was kept would look better than it is. `expected_s` is what was expected when it was on its way:
    what was learnt since would make the past look better known than it was.
    """

    trip: Trip
    seconds: float
    ended_s: float = 0.0
    expected_s: float | None = None


class StageModel:
    """The sum of the stages, taken for the lognormal of the same two moments, and the ride."""

    def __init__(self, stages: Stages = PRIOR) -> None:
        parts = (stages.accept, stages.own_review, stages.pick_pack, stages.hand_over)
        mean = sum(part.moments[0] for part in parts)
        variance = sum(part.moments[1] for part in parts)
        self._stages = stages
        self._sigma = sqrt(log(1 + variance / mean**2))
        self._mu = log(mean) - self._sigma**2 / 2

    def seconds(self, share: float, trip: Trip) -> float:
        """By when this share of such orders is at the door."""
        spread = exp(self._mu + self._sigma * NORMAL.inv_cdf(share))
        return spread + self._certain(trip)

    def _certain(self, trip: Trip) -> float:
        stages = self._stages
        handling = stages.pick_up_s + stages.extra_line_s * (trip.lines - 1)
        return handling + stages.cold_chain_s * trip.cold + trip.metres / trip.metres_a_second


class Experience:
    """What the orders of one city and tier have shown so far; old ones drop out."""

    def __init__(self, model: StageModel, window: int = WINDOW) -> None:
        self._model = model
        self._window = window
        self._level = 0.0
        self._learnt = self._spread_of = 0
        self._spread_s = 0.0
        self._hour_sums = [0.0] * HOURS
        self._hour_counts = [0.0] * HOURS
        self._pharmacies: dict[Hashable, tuple[float, float]] = {}
        self._turn: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []
        self._kept: dict[float, Kept] = {}

    def __len__(self) -> int:
        return len(self._turn)

    def learn(self, done: Done) -> None:
        """One more order ended: in the order of their ends."""
        expected = self.expected(done.trip) if done.expected_s is None else done.expected_s
        self._learnt += 1
        if self._learnt > WARM_UP:
            self._remember(done.seconds - expected, done.ended_s)
        if done.seconds == inf:
            return
        trip = done.trip
        whole = min(done.seconds, LONGEST_S) - self._model.seconds(0.5, trip)
        off = whole - self._hour(trip.hour)
        self._level += (off - self._level) / min(self._learnt, LEVEL_OF)
        self._hour_sums[trip.hour] = HOUR_KEEPS * self._hour_sums[trip.hour] + whole
        self._hour_counts[trip.hour] = HOUR_KEEPS * self._hour_counts[trip.hour] + 1
        total, weight = self._pharmacies.get(trip.pharmacy, (0.0, 0.0))
        kept = PHARMACY_KEEPS * total + off - self._level, PHARMACY_KEEPS * weight + 1
        self._pharmacies[trip.pharmacy] = kept

    def kept(self, target: float) -> Kept:
        """How often the quotes made for this share were kept; tell it of each of them."""
        return self._kept.setdefault(target, Kept(target))

    def ended(self, order: Hashable, ended_s: float) -> None:
        """A quoted order came to the door at a Unix time; infinite when it was given up."""
        for kept in self._kept.values():
            kept.ended(order, ended_s)

    def expected(self, trip: Trip) -> float:
        """Seconds that such an order takes in the middle."""
        total, weight = self._pharmacies.get(trip.pharmacy, (0.0, 0.0))
        own = total / (weight + PHARMACY_SHRINKS)
        return self._model.seconds(0.5, trip) + self._hour(trip.hour) + self._level + own

    def _hour(self, hour: int) -> float:
        """How much longer than on the whole orders of this hour take."""
        count = sum(self._hour_counts)
        mean = sum(self._hour_sums) / count if count else 0.0
        own = self._hour_sums[hour] + HOUR_SHRINKS * mean
        return own / (self._hour_counts[hour] + HOUR_SHRINKS) - mean

    def spare(self, target: float, late: Iterable[float] = ()) -> float | None:
        """Seconds beyond the expected that are kept with this share; None: too few are known.

        `late` says of each order still on its way how far it is beyond what was expected of it:
        those that can no longer be in time count as missed before they arrive.
        """
        share = self._kept[target].share if target in self._kept else target
        found = self._rank(share, 0)
        if found is None:
            return None
        missed = sum(one > found for one in late)
        # A surge moves the quantile, but not beyond what the ended orders can speak for.
        return self._rank(share, min(missed, len(self) // SURGE_MAX)) if missed else found

    def _rank(self, share: float, missed: int) -> float | None:
        count = len(self._sorted)
        if count < LEAST:
            return None
        rank = ceil((count + missed + 1) * share)
        return self._sorted[rank - 1] * (self._spread_s or 1.0) if rank <= count else inf

    def _remember(self, off_s: float, ended_s: float) -> None:
        spread_s = self._spread_s or 1.0
        if off_s != inf:
            self._spread_of += 1
            farther = min(abs(off_s), FARTHEST_S) - self._spread_s
            self._spread_s += farther / min(self._spread_of, SPREAD_OF)
            if self._spread_of == 1:
                # Nothing to measure it by.
                return
        off = off_s / spread_s
        self._turn.append((off, ended_s))
        insort(self._sorted, off)
        while len(self._turn) > self._window and (
            ended_s - self._turn[0][1] > WINDOW_S or len(self._turn) > WINDOW_MAX
        ):
            del self._sorted[bisect_left(self._sorted, self._turn.popleft()[0])]


@dataclass(frozen=True, slots=True)
class Promise:
    """What may be quoted in one city and tier; `orders` is how many it rests on."""

    target: float
    model: StageModel
    experience: Experience | None = None
    spare_s: float = 0.0

    @classmethod
    def of(
        cls, target: float, model: StageModel, *levels: tuple[Experience, Iterable[float]]
    ) -> "Promise":
        """From the narrowest level that knows enough; the model alone when none does."""
        for experience, late in levels:
            spare = experience.spare(target, late)
            if spare is not None:
                return cls(target, model, experience, spare)
        return cls(target, model)

    @property
    def orders(self) -> int:
        """How many ended orders it rests on."""
        return 0 if self.experience is None else len(self.experience)

    def seconds(self, trip: Trip) -> float:
        """The time that is kept with the target's share; infinite when nothing can be said."""
        if self.experience is None:
            return self.model.seconds(self.target, trip)
        return self.experience.expected(trip) + self.spare_s
