"""One day, event by event: orders come, a policy offers, people answer, couriers ride.

The engine alone knows the future. A policy sees the board, which holds what is known by now.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import floor
from time import perf_counter
from typing import Protocol

import numpy as np

from schemas.values import Tier
from services.dispatch.domain import promise
from services.dispatch.domain.scoring import NEEDED_S
from services.dispatch.domain.state import Terms
from services.dispatch.domain.tiers import ASK_STANDS
from services.dispatch.whatif.city import City, Ints, Options
from services.dispatch.whatif.couriers import Fleet
from services.dispatch.whatif.facts import Asked, Scenario

SLOT_S = int(promise.SLOT.total_seconds())
TICK_S = 2
RECENT_S = 1200.0
# Options are looked at anew after so long: a pharmacy may have opened.
STALE_S = 600.0
PICK_UP_S = 45.0
COURIER_AHEAD_S = 240.0
FORESEEN_MINUTES = 1.0


class Kind(IntEnum):
    """Events of the same moment happen in this order."""

    KNOWN = 0
    GONE = 1
    RELEASED = 2
    ANSWERED = 3
    CONFIRMED = 4
    GIVEN_BACK = 5
    CALLED = 6
    FALLS = 7
    SLOT = 8
    TICK = 9
    OPENS = 10


@dataclass(slots=True)
class Case:
    """An order as a policy may see it. `due_s` is a guess until it is released."""

    number: int
    asked: Asked
    tier: Tier
    due_s: float
    latest_s: float
    released: bool = False
    released_s: float = 0.0
    rung: int = 0
    attempt: int = 0
    offers: int = 0
    out: set[int] = field(default_factory=set)
    options: Options | None = None
    options_at: float = 0.0
    terms: Terms | None = None


@dataclass(slots=True)
class Outcome:
    """What became of an order. `exhausted` speaks of the clock, also where another time was agreed.

    `agreed_until_s` is the end of the agreed time. `door_s` is at the counter for who collects it.
    """

    number: int
    tier: Tier
    rung: int = 0
    accepted: bool = False
    pharmacy: int = -1
    metres: int = 0
    accepted_s: float = 0.0
    door_s: float | None = None
    due_s: float = 0.0
    refusals: int = 0
    given_back: int = 0
    exhausted: bool = False
    floor: bool = False
    asked_other_time: bool = False
    agreed_tier: Tier | None = None
    agreed_until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Commitment:
    """An offer as it was made, for the referee."""

    order: int
    pharmacy: int
    tier: Tier
    due_s: float
    at_s: float
    out: frozenset[int]

    @property
    def slot(self) -> int:
        """The number of the slot whose place it uses."""
        return int(self.at_s // SLOT_S)


@dataclass(slots=True)
class Standing:
    """An offer that waits for its answer."""

    made: Commitment
    answer: bool | None


class Policy(Protocol):
    """Which waiting orders are offered to whom, now. Bring your own: `--policy module:Class`."""

    name: str
    checks_capacity: bool

    def offers(self, board: "Board") -> Iterable[tuple[Case, int]]:
        """(order, pharmacy number) pairs to offer at once; the others go on waiting.

        An order that is named twice is offered to both: who accepts first has it, the other offer
        is withdrawn and gives its place and packs back. Until then it holds both.
        A policy that wants to be asked again without news sets `board.wake_s`.
        """


@dataclass(slots=True)
class Board:
    """What is known now."""

    city: City
    now_s: float = 0.0
    wake_s: float | None = None
    pending: dict[int, Case] = field(default_factory=dict)
    foreseen: dict[int, Case] = field(default_factory=dict)
    recent: list[Case] = field(default_factory=list)
    used: dict[int, Ints] = field(default_factory=dict)

    @property
    def slot(self) -> int:
        """The number of the present slot."""
        return int(self.now_s // SLOT_S)

    def slot_starts(self, slot: int) -> float:
        """Seconds."""
        return float(slot * SLOT_S)

    def left(self, slot: int) -> Ints:
        """Free places of every pharmacy in a slot."""
        used = self.used.get(slot)
        return self.city.capacity if used is None else self.city.capacity - used

    def options(self, case: Case) -> Options:
        """Who passes every gate but capacity, nearest first."""
        if case.options is None or self.now_s - case.options_at > STALE_S:
            case.options = self.city.options(
                case.number, case.asked, case.tier, case.due_s, self.now_s, case.out
            )
            case.options_at = self.now_s
        return case.options


def _without(options: Options, out: set[int]) -> Options:
    if not out:
        return options
    kept = ~np.isin(options.numbers, list(out))
    return Options(options.numbers[kept], options.metres[kept])


@dataclass
class Result:
    """Everything a day left behind; metrics are made of it.

    The log holds what was reserved (1) and what was let go (-1), in its order.
    """

    policy: str
    outcomes: list[Outcome]
    log: list[tuple[int, Commitment]]
    decide_s: list[float]
    courier_busy_s: float
    courier_shift_s: float


class Engine:
    """Runs a scenario under a policy."""

    def __init__(self, scenario: Scenario, policy: Policy, *, timed: bool = False) -> None:
        self.scenario, self.policy = scenario, policy
        self.city = City(scenario)
        self.board = Board(self.city)
        self.fleet = Fleet(scenario.riders, scenario.chance)
        self.outcomes = [Outcome(n, o.tier) for n, o in enumerate(scenario.orders)]
        self.log: list[tuple[int, Commitment]] = []
        self.decide_s: list[float] = []
        self._timed = timed
        self._heap: list[tuple[float, int, int, int, float | None]] = []
        self._sequence = self._offers = 0
        self._tick_at: float | None = None
        # By order, then by the number of the offer, which is what an answer must carry.
        self._open: dict[int, dict[int, Standing]] = {}
        self._held: dict[int, Commitment] = {}
        self._cases: dict[int, Case] = {}
        self._waiting: dict[int, Case] = {}

    def run(self) -> Result:
        """From the first order to the last event."""
        for number, asked in enumerate(self.scenario.orders):
            self._push(asked.submitted_s, Kind.KNOWN, number)
        handlers = {
            Kind.KNOWN: self._known,
            Kind.GONE: self._gone,
            Kind.RELEASED: self._released,
            Kind.ANSWERED: self._answered,
            Kind.CONFIRMED: self._confirmed,
            Kind.GIVEN_BACK: self._given_back,
            Kind.CALLED: self._called,
            Kind.FALLS: self._falls,
            Kind.SLOT: self._slot,
            Kind.TICK: self._tick,
            Kind.OPENS: self._opens,
        }
        while self._heap:
            at, kind, _, number, detail = heapq.heappop(self._heap)
            self.board.now_s = at
            handlers[Kind(kind)](number, detail)
        busy, shift = self.fleet.worked()
        return Result(self.policy.name, self.outcomes, self.log, self.decide_s, busy, shift)

    def _push(self, at: float, kind: Kind, number: int, detail: float | None = None) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (at, int(kind), self._sequence, number, detail))

    def _news(self, at: float | None = None) -> None:
        """Something changed: the policy is asked at the next tick."""
        moment = self.board.now_s if at is None else max(at, self.board.now_s)
        tick = TICK_S * (floor(moment / TICK_S) + 1)
        if self._tick_at is None or tick < self._tick_at:
            self._tick_at = float(tick)
            self._push(float(tick), Kind.TICK, -1)

    def _known(self, number: int, _detail: float | None) -> None:
        asked, now = self.scenario.orders[number], self.board.now_s
        due = now + 60 * (FORESEEN_MINUTES + promise.MINUTES[asked.tier])
        case = Case(number, asked, asked.tier, due, due - NEEDED_S[asked.tier])
        self.board.foreseen[number] = case
        self.board.recent.append(case)
        if asked.released_s is None:
            self._push(asked.gone_s, Kind.GONE, number)
        else:
            self._push(asked.released_s, Kind.RELEASED, number)
        self._news()

    def _gone(self, number: int, _detail: float | None) -> None:
        self.board.foreseen.pop(number, None)

    def _released(self, number: int, _detail: float | None) -> None:
        case = self.board.foreseen.pop(number)
        case.released, case.released_s = True, self.board.now_s
        self._on_tier(case, case.asked.tier)
        self.outcomes[number].due_s = case.due_s
        self.board.pending[number] = case
        if not len(self.board.options(case).numbers):
            self.outcomes[number].floor = True
        self._seek(case)

    def _on_tier(self, case: Case, tier: Tier) -> None:
        case.tier = tier
        case.due_s = case.released_s + 60 * promise.MINUTES[tier]
        case.latest_s = case.due_s - NEEDED_S[tier]
        case.options = None
        self._push(case.latest_s, Kind.FALLS, case.number, case.rung)

    def _seek(self, case: Case) -> None:
        """It waits for an offer; a tier on which nobody is left falls at once."""
        while not len(self.board.options(case).numbers):
            if not self._fall(case):
                return
        self._news()

    def _fall(self, case: Case) -> bool:
        """To the next tier; False at the end of the ladder."""
        ladder = promise.ladder(case.asked.tier)
        case.rung += 1
        outcome = self.outcomes[case.number]
        outcome.rung = case.rung
        if case.rung >= len(ladder):
            outcome.exhausted = True
            self.board.pending.pop(case.number, None)
            self._another_time(case, outcome)
            return False
        self._on_tier(case, ladder[case.rung])
        return True

    def _another_time(self, case: Case, outcome: Outcome) -> None:
        """An opening in time is waited for; else the patient says whether a later one will do."""
        now, due_s = self.board.now_s, case.due_s
        terms = self.city.terms(case.asked, case.tier, due_s, now, case.out)
        if not terms:
            return
        opens_s = self.city.seconds(terms[0].offer_at)
        if terms[0].tier is Tier.SCHEDULED and opens_s + NEEDED_S[case.tier] <= due_s:
            case.rung = outcome.rung = case.rung - 1
            outcome.exhausted = False
            self._wait(case, opens_s)
            return
        outcome.asked_other_time = True
        offered = {one.tier: one for one in terms}
        chosen, after_s = self.scenario.chance.agrees(case.number, tuple(offered))
        if chosen and now + after_s <= max(opens_s, now + ASK_STANDS.total_seconds()):
            case.terms = offered[chosen]
            outcome.agreed_tier = chosen
            outcome.agreed_until_s = self.city.seconds(case.terms.due_at)
            self._wait(case, max(self.city.seconds(case.terms.offer_at), now + after_s))

    def _wait(self, case: Case, until_s: float) -> None:
        self._waiting[case.number] = case
        self._push(until_s, Kind.OPENS, case.number)

    def _opens(self, number: int, _detail: float | None) -> None:
        case = self._waiting.pop(number)
        case.options = None
        if case.terms is not None:
            case.tier = case.terms.tier
            case.due_s = self.city.seconds(case.terms.due_at)
            case.latest_s = case.due_s - NEEDED_S[case.tier]
            self._push(case.latest_s, Kind.FALLS, number, case.rung)
        self.board.pending[number] = case
        self._seek(case)

    def _falls(self, number: int, rung: float | None) -> None:
        case = self.board.pending.get(number)
        if case is not None and case.rung == rung and self._fall(case):
            self._seek(case)

    def _slot(self, _number: int, _detail: float | None) -> None:
        if self.board.pending:
            self._news()

    def _tick(self, _number: int, _detail: float | None) -> None:
        if self._tick_at != self.board.now_s:
            return
        self._tick_at = None
        board = self.board
        board.recent = [c for c in board.recent if board.now_s - c.asked.submitted_s <= RECENT_S]
        if not board.pending:
            return
        board.wake_s = None
        began = perf_counter() if self._timed else 0.0
        made = list(self.policy.offers(board))
        if self._timed:
            self.decide_s.append(perf_counter() - began)
        for case, pharmacy in made:
            self._offer(case, pharmacy)
        if board.pending:
            self._news(board.slot_starts(board.slot + 1))
            if board.wake_s is not None:
                self._news(board.wake_s - TICK_S)

    def _offer(self, case: Case, pharmacy: int) -> None:
        number, now, board = case.number, self.board.now_s, self.board
        beside = self._open.get(number, {})
        if number not in board.pending and not beside:
            # What a policy named before has ended the search.
            return
        if not self.city.in_stock(case.asked, pharmacy):
            case.options = None
            if not beside:
                self._seek(case)
            return
        board.pending.pop(number, None)
        slot = board.slot
        used = board.used.setdefault(slot, np.zeros(len(self.city.index), np.int64))
        full = used[pharmacy] >= self.city.capacity[pharmacy]
        made = Commitment(number, pharmacy, case.tier, case.due_s, now, frozenset(case.out))
        self.log.append((1, made))
        answer, after_s = self.scenario.chance.answers(number, pharmacy, 1)
        case.offers += 1
        # A pharmacy whose hands are full says no, whatever it would have said.
        answer = False if full and answer else answer
        stands = promise.OFFER_STANDS[case.tier].total_seconds()
        if answer is None or after_s > stands:
            answer, after_s = None, stands
        used[pharmacy] += 1
        self.city.take(case.asked, pharmacy, 1)
        self._offers += 1
        self._open[number] = {**beside, self._offers: Standing(made, answer)}
        self._cases[number] = case
        self._push(now + after_s, Kind.ANSWERED, number, self._offers)

    def _let_go(self, made: Commitment) -> None:
        """The place and the packs are there for others again."""
        self.log.append((-1, made))
        self.board.used[made.slot][made.pharmacy] -= 1
        self.city.take(self._cases[made.order].asked, made.pharmacy, -1)

    def _never_again(self, case: Case, pharmacy: int) -> None:
        case.out.add(pharmacy)
        if case.options is not None:
            case.options = _without(case.options, {pharmacy})

    def _answered(self, number: int, offer: float | None) -> None:
        standing = self._open[number].pop(int(offer or 0), None)
        if standing is None:
            # It was withdrawn: the answer comes too late.
            return
        case, outcome, made = self._cases[number], self.outcomes[number], standing.made
        if standing.answer:
            for beside in self._open[number].values():
                self._let_go(beside.made)
            self._open[number].clear()
            self._held[number] = made
            case.attempt += 1
            outcome.accepted, outcome.pharmacy = True, made.pharmacy
            outcome.accepted_s = self.board.now_s
            confirms, after_s = self.scenario.chance.confirms(number, made.pharmacy, case.attempt)
            self._push(self.board.now_s + after_s, Kind.CONFIRMED, number, confirms)
            return
        outcome.refusals += 1
        self._let_go(made)
        self._never_again(case, made.pharmacy)
        if not self._open[number]:
            self._again(case)

    def _again(self, case: Case) -> None:
        """The original clock goes on; what it can no longer keep falls."""
        self.board.pending[case.number] = case
        if case.offers >= promise.OFFERS_MAX or case.attempt >= promise.ATTEMPTS_MAX:
            self.outcomes[case.number].exhausted = True
            del self.board.pending[case.number]
            return
        while self.board.now_s >= case.latest_s:
            if not self._fall(case):
                return
        self._seek(case)

    def _confirmed(self, number: int, confirms: float | None) -> None:
        case, now = self._cases[number], self.board.now_s
        pharmacy = self._held[number].pharmacy
        chance = self.scenario.chance
        picking_s = chance.picking_s(number, pharmacy, case.attempt)
        if not confirms:
            self._push(now, Kind.GIVEN_BACK, number)
        elif not chance.finds(number, pharmacy, case.attempt):
            self._push(now + picking_s / 2, Kind.GIVEN_BACK, number)
        elif case.tier is Tier.PICK_UP and case.terms is not None:
            self._lies_ready(case, case.terms, now + picking_s)
        else:
            ready = now + picking_s
            if case.terms is not None:
                ready = max(ready, self.city.seconds(case.terms.not_before))
            self._push(max(now, ready - COURIER_AHEAD_S), Kind.CALLED, number, ready)

    def _lies_ready(self, case: Case, terms: Terms, ready_s: float) -> None:
        """No courier comes; the patient does, or stays away."""
        comes_s = self.scenario.chance.comes_s(case.number)
        if comes_s is not None:
            there_s = max(ready_s, self.city.seconds(terms.not_before)) + comes_s
            self.outcomes[case.number].door_s = there_s

    def _given_back(self, number: int, _detail: float | None) -> None:
        case, outcome = self._cases[number], self.outcomes[number]
        outcome.given_back += 1
        outcome.accepted = False
        case.offers = 0
        made = self._held.pop(number)
        self._let_go(made)
        self._never_again(case, made.pharmacy)
        self._again(case)

    def _called(self, number: int, ready_s: float | None) -> None:
        pharmacy = self._held[number].pharmacy
        shop = self.city.index.pharmacies[pharmacy].point
        case, outcome = self._cases[number], self.outcomes[number]
        metres = int(self.city.index.distances(case.asked.point)[pharmacy])
        hand_over_s = self.scenario.chance.hand_over_s(number)
        outcome.metres = metres
        outcome.door_s = self.fleet.carry(
            self.board.now_s,
            (ready_s or 0.0) + PICK_UP_S,
            shop,
            case.asked.point,
            metres,
            hand_over_s,
        )


def measured(scenario: Scenario, outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    """Orders that count: within the measured hours, and released to dispatch."""
    for outcome in outcomes:
        asked = scenario.orders[outcome.number]
        if asked.measured and asked.released_s is not None:
            yield outcome
