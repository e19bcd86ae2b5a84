"""Ways to choose: two greedy ones, and ours with and without its parts."""

from collections.abc import Iterator, Sequence

import numpy as np

from services.dispatch.domain import promise, scoring
from services.dispatch.domain.plan import Places, Row, plan
from services.dispatch.whatif.engine import SLOT_S, Board, Case

BY_RULES_S, BY_PERSON_S = 5.0, 45.0
RELEASED_SHARE = 0.95


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
    slots = 3
    every_s = 10.0
    near, near_expected = 24, 10
    expected_worth = 0.5
    fallen_worth = 0.5

    def __init__(self) -> None:
        self._clock = scoring.Clock()
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
        rows = [self._waiting(board, case) for case in waiting]
        if self.foresees:
            rows += [self._foreseen(board, case) for case in board.foreseen.values()]
        if self.expects:
            rows += self._expected(board)
        starts = [board.slot_starts(board.slot + k) - board.now_s for k in range(self.slots)]
        left = np.stack([board.left(board.slot + k) for k in range(self.slots)])
        chosen = plan(rows, Places(left, np.array(starts), float(SLOT_S)), self._clock)
        self._shared = chosen.solved
        for n, case in enumerate(waiting):
            if chosen.slot[n] == 0:
                yield case, int(chosen.pharmacy[n])

    def _waiting(self, board: Board, case: Case) -> Row:
        worth = self.fallen_worth if case.rung else 1.0
        due, latest = case.due_s - board.now_s, case.latest_s - board.now_s
        return self._row(board, case, 0.0, due, latest, worth, self.near)

    def _foreseen(self, board: Board, case: Case) -> Row:
        """Rules alone take seconds; who waits longer has a person's decision before him."""
        waited = board.now_s - case.asked.submitted_s
        at = BY_RULES_S if waited < 3 * BY_RULES_S else BY_PERSON_S
        return self._coming(board, case, at, RELEASED_SHARE, self.near)

    def _expected(self, board: Board) -> list[Row]:
        """What came ten minutes ago comes again, and after it what comes in the next slot."""
        end = board.slot_starts(board.slot + 2)
        rows: list[Row] = []
        for case in board.recent:
            if not case.released and case.number not in board.foreseen:
                continue
            age = board.now_s - case.asked.submitted_s
            shift = SLOT_S if age < SLOT_S else 2 * SLOT_S
            at = case.asked.submitted_s + shift + BY_RULES_S
            if board.now_s < at < end:
                coming = at - board.now_s
                rows.append(
                    self._coming(board, case, coming, self.expected_worth, self.near_expected)
                )
        return rows

    def _coming(self, board: Board, case: Case, at: float, worth: float, near: int) -> Row:
        due = at + 60 * promise.MINUTES[case.asked.tier]
        latest = due - scoring.NEEDED_S[case.asked.tier]
        return self._row(board, case, at, due, latest, worth, near)

    def _row(
        self,
        board: Board,
        case: Case,
        at: float,
        due: float,
        latest: float,
        worth: float,
        near: int,
    ) -> Row:
        options = board.options(case)
        fixed = self._fixed.get(case.number)
        if fixed is None:
            fixed = self._clock.fixed_s(len(case.asked.lines), case.asked.cold)
            self._fixed[case.number] = fixed
        firm = case.number in board.pending and not at
        numbers, metres = options.numbers[:near], options.metres[:near]
        return Row(numbers, metres, at, due, latest, fixed, worth, firm)


class WithoutForecast(Ours):
    """Ours without the orders that are only expected: no price on a place that others will need."""

    name = "ours_without_price"
    expects = False


class WithoutLookahead(Ours):
    """Ours without the orders still in review or claim."""

    name = "ours_without_lookahead"
    foresees = False
