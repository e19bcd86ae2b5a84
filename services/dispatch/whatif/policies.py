"""Ways to choose: two greedy ones, and ours with and without its parts."""

from collections.abc import Iterator, Sequence

from services.dispatch.domain import ahead, promise
from services.dispatch.domain.parallel import SLACK_S
from services.dispatch.domain.plan import Row, plan
from services.dispatch.domain.scoring import Clock
from services.dispatch.whatif.engine import Board, Case


class GreedyNearest:
    """The nearest pharmacy that has all lines, first come first served; the next on refusal."""

    name = "greedy_nearest"
    checks_capacity = False

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """Every waiting order at once."""
        for case in in_turn(board):
            numbers = board.options(case).numbers
            if len(numbers):
                yield case, int(numbers[0])


class GreedyCapacity:
    """The nearest feasible pharmacy with a free place; who finds none is tried again."""

    name = "greedy_capacity"
    checks_capacity = True

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """One after the other; each takes its place from those behind it."""
        left = board.left(board.slot).copy()
        for case in in_turn(board):
            numbers = board.options(case).numbers
            free = numbers[left[numbers] > 0]
            if len(free):
                left[free[0]] -= 1
                yield case, int(free[0])


def in_turn(board: Board) -> Sequence[Case]:
    """Waiting orders by their release."""
    return sorted(board.pending.values(), key=lambda case: (case.released_s, case.number))


class Ours:
    """All orders at once over the slots ahead, those in review and the usual ones to come too."""

    name = "ours"
    checks_capacity = True
    foresees = True
    expects = True
    every_s = 10.0
    fallen_worth = 0.5

    def __init__(self) -> None:
        self._clock = Clock()
        self._fixed: dict[int, float] = {}
        self._asked_s, self._slot, self._shared = float("-inf"), -1, False

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """What the plan puts into the present slot."""
        # Where there is room for all, waiting for others gains nothing.
        early = board.now_s - self._asked_s < self.every_s and board.slot == self._slot
        if early and self._shared:
            board.wake_s = self._asked_s + self.every_s
            return
        self._asked_s, self._slot = board.now_s, board.slot
        board.wake_s = board.now_s + self.every_s
        waiting = in_turn(board)
        into_s = board.now_s - board.slot_starts(board.slot)
        rows = [self._waiting(board, case) for case in waiting]
        if self.foresees:
            rows += [self._foreseen(board, case) for case in board.foreseen.values()]
        if self.expects:
            rows += self._expected(board, into_s)
        places = ahead.places(board.left(board.slot), board.city.capacity, into_s)
        chosen = plan(rows, places, self._clock)
        self._shared = chosen.solved
        for n, case in enumerate(waiting):
            if chosen.slot[n] == 0:
                yield case, int(chosen.pharmacy[n])

    def _waiting(self, board: Board, case: Case) -> Row:
        known = self._known(board, case)
        return Row(
            known.numbers[: ahead.NEAR],
            known.metres[: ahead.NEAR],
            0.0,
            case.due_s - board.now_s,
            case.latest_s - board.now_s,
            known.fixed_s,
            self.fallen_worth if case.rung else 1.0,
        )

    def _foreseen(self, board: Board, case: Case) -> Row:
        waited_s = board.now_s - case.asked.submitted_s
        return ahead.foreseen(self._known(board, case), waited_s)

    def _expected(self, board: Board, into_s: float) -> list[Row]:
        """What came ten minutes ago comes again, and after it what comes in the next slot."""
        rows: list[Row] = []
        for case in board.recent:
            if not case.released and case.number not in board.foreseen:
                continue
            age_s = board.now_s - case.asked.submitted_s - ahead.BY_RULES_S
            row = ahead.expected(self._known(board, case), age_s, into_s)
            if row is not None:
                rows.append(row)
        return rows

    def _known(self, board: Board, case: Case) -> ahead.Known:
        options = board.options(case)
        fixed = self._fixed.get(case.number)
        if fixed is None:
            fixed = self._clock.fixed_s(len(case.asked.lines), case.asked.cold)
            self._fixed[case.number] = fixed
        return ahead.Known(options.numbers, options.metres, case.asked.tier, fixed)


class InParallel(Ours):
    """Ours, and a second pharmacy asked at once where there is no time left to be refused.

    The live rule (`parallel.py`) but for one thing: it does not ask how often the first accepts,
    which people who are drawn alike would answer alike.
    """

    name = "ours_parallel"

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """Second ones get what no first one wants, those with the least time before others."""
        firsts = list(super().offers(board))
        yield from firsts
        left = board.left(board.slot).copy()
        for _, pharmacy in firsts:
            left[pharmacy] -= 1
        for case, first in sorted(firsts, key=lambda pair: (pair[0].latest_s, pair[0].number)):
            if case.rung or case.latest_s - board.now_s >= SLACK_S:
                continue
            if case.offers + 1 >= promise.OFFERS_MAX:
                continue
            numbers = board.options(case).numbers
            free = numbers[(left[numbers] > 0) & (numbers != first)]
            if len(free):
                left[free[0]] -= 1
                yield case, int(free[0])


class WithoutForecast(Ours):
    """Ours without the orders that are only expected: no price on a place that others will need."""

    name = "ours_without_price"
    expects = False


class WithoutLookahead(Ours):
    """Ours without the orders still in review or claim."""

    name = "ours_without_lookahead"
    foresees = False
