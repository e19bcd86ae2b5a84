"""When the nemesis strikes, with what and for how long: all of it drawn from one seed."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

# The pause between two strokes; both ends in seconds.
PAUSE_S = (1.0, 4.0)
# At the end nothing new is begun, so that the last strokes have orders to meet.
QUIET_END_S = 5.0


@dataclass(frozen=True)
class Stroke:
    """One blow: `seed` draws everything that the fault leaves open (whom, where, how hard)."""

    number: int
    at_s: float
    fault: str
    for_s: float
    seed: int

    def dice(self, tries: int = 1) -> random.Random:
        """The stroke's own draws, the same in every run; others when it is tried again."""
        return random.Random(self.seed if tries == 1 else f"{self.seed} try {tries}")


Lasts = Mapping[str, tuple[float, float]]


def schedule(seed: int, seconds: float, names: Sequence[str], lasts: Lasts) -> tuple[Stroke, ...]:
    """Strokes over so many seconds: every fault once before any comes again, in shuffled rounds.

    `lasts` gives the shortest and the longest duration of each fault, in seconds.
    """
    dice = random.Random(f"nemesis {seed}")
    strokes: list[Stroke] = []
    free_s = dict.fromkeys(names, 0.0)
    round_: list[str] = []
    at_s = 0.0
    while names:
        if not round_:
            # Sorted first: the order in which names are given is no part of the seed.
            round_ = sorted(set(names))
            dice.shuffle(round_)
        name = round_.pop()
        # The same again only when it is over.
        at_s = max(at_s + dice.uniform(*PAUSE_S), free_s[name])
        if at_s >= seconds - QUIET_END_S:
            break
        for_s = min(dice.uniform(*lasts[name]), max(lasts[name][0], seconds - at_s))
        number = len(strokes) + 1
        free_s[name] = at_s + for_s
        strokes.append(Stroke(number, round(at_s, 3), name, round(for_s, 3), _seed(seed, number)))
    return tuple(strokes)


def one_of_each(seed: int, names: Sequence[str], lasts: Lasts) -> tuple[Stroke, ...]:
    """Each fault once, whatever time it takes."""
    count = len(set(names))
    return schedule(seed, QUIET_END_S + PAUSE_S[1] * (count + 1), names, lasts)[:count]


def of_seeds(seeds: Iterable[int], names: Sequence[str], lasts: Lasts) -> tuple[Stroke, ...]:
    """Each fault once with each seed, whose number it bears, in an order drawn from all of them.

    It is the first stroke of a schedule of that seed and fault alone.
    """
    strokes = [
        replace(one_of_each(seed, [name], lasts)[0], number=seed)
        for name in names
        for seed in seeds
    ]
    random.Random(f"of seeds {strokes}").shuffle(strokes)
    return tuple(strokes)


def _seed(seed: int, number: int) -> int:
    return random.Random(f"stroke {seed} {number}").getrandbits(48)
