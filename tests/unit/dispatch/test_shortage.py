"""The line for a drug that nobody had: asked once, in turn, for packs that are kept."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.dispatch import (
    PatientAnswered,
    PatientAsked,
    PromiseMade,
    ShortageEnd,
    ShortageEnded,
    ShortageRegistered,
)
from schemas.values import GateCode, Outcome, Tier
from services.dispatch import domain
from services.dispatch.domain.found import Opened
from services.dispatch.domain.shortage import (
    ASK_STANDS,
    KEPT_FOR,
    NO,
    STOCK_APPEARED,
    YES,
    Needed,
    Place,
    Served,
    Shelf,
    Waiting,
    line_up,
)
from services.dispatch.domain.state import Authorised, Held, Line, Phase, PlaceKept, State
from services.kit.decision import SetTimer
from services.kit.spec import NOW, Given, facts_for
from services.kit.spec import Outcome as Told
from tests.unit.dispatch import samples as s

LADDER = (Tier.MIN_30, Tier.MIN_60, Tier.CITYWIDE)
PACKS = {"DRUG00001": 2, "DRUG00002": 1}
SERVED = Served(s.uid(100), PACKS)
CODES = ("DRUG00001", "DRUG00002", "DRUG00003")


def waiting() -> Given:
    """Exhausted, closed, and registered with consent."""
    found = s.matched(None, *((tier, GateCode.NO_STOCK) for tier in LADDER))
    end = s.seeking().when(s.match_timer(), facts=found)
    look = SetTimer("shortage", NOW + timedelta(minutes=1))
    assert look in end.decision.timers
    return Given(domain, end.and_when(s.closed(Outcome.EXHAUSTED)).state)


def asked() -> Told:
    return waiting().when(s.timer("shortage"), facts=facts_for(found=SERVED))


def ask_id() -> UUID:
    (event,) = [e for e in asked().decision.events if isinstance(e, PatientAsked)]
    return event.ask_id


def say(word: str, *, ordered: bool = False) -> Told:
    return asked().and_when(s.answer(word, ask_id()), facts=s.hospital_facts(Place(ordered)))


def test_when_packs_appear_the_one_whose_turn_it_is_is_asked_with_a_deadline() -> None:
    held, question = asked().then_types(Held, PatientAsked).decision.events
    assert held == Held(pharmacy_id=s.uid(100), packs=PACKS)
    assert isinstance(question, PatientAsked)
    assert (question.kind, question.default) == (STOCK_APPEARED, NO)
    assert question.deadline == NOW + ASK_STANDS
    assert question.facts["prescription_ends"] == s.order().expires_at.isoformat()


def test_who_is_not_served_is_not_asked_and_nobody_is_asked_twice() -> None:
    waiting().when(s.timer("shortage"), facts=facts_for()).then_stale()
    asked().and_when(s.timer("shortage"), facts=facts_for(found=SERVED)).then_stale()
    s.seeking().when(s.timer("shortage"), facts=facts_for(found=SERVED)).then_stale()


def test_a_yes_keeps_the_packs_for_a_while() -> None:
    said = say(YES).then_types(PatientAnswered)
    assert SetTimer("place", NOW + KEPT_FOR) in said.decision.timers
    lapsed = said.and_when(s.timer("place"), facts=facts_for(found=Place(False)))
    (end,) = lapsed.then_types(ShortageEnded).decision.events
    assert isinstance(end, ShortageEnded)
    assert end.why is ShortageEnd.LAPSED
    said.and_when(s.timer("place"), facts=facts_for(found=Place(True))).then_stale()


def test_a_no_or_silence_lets_the_next_have_them() -> None:
    ends = []
    for told in (
        say(NO),
        asked().and_when(s.timer("ask", str(ask_id())), facts=facts_for(found=Place(False))),
    ):
        _, end = told.then_types(PatientAnswered, ShortageEnded).decision.events
        assert isinstance(end, ShortageEnded)
        ends.append(end.why)
        assert told.state.line is Line.LEFT
    assert ends == [ShortageEnd.DECLINED, ShortageEnd.SILENT]


def test_who_has_ordered_has_answered() -> None:
    say(NO, ordered=True).then_invalid("place_taken")
    silent = asked().and_when(s.timer("ask", str(ask_id())), facts=facts_for(found=Place(True)))
    (said,) = silent.then_types(PatientAnswered).decision.events
    assert isinstance(said, PatientAnswered)
    assert (said.answer, said.by_default) == (YES, False)


def test_a_new_order_keeps_the_place_and_hands_it_on() -> None:
    opened = s.foreseen().when(s.authorised(), facts=facts_for(found=Opened(keeps=s.uid(5))))
    opened.then_types(Authorised, PlaceKept, PromiseMade)
    found = s.matched(None, *((tier, GateCode.NO_STOCK) for tier in LADDER))
    again = opened.and_when(s.match_timer(), facts=found).decision.events[-1]
    assert isinstance(again, ShortageRegistered)
    assert again.registration_id == s.uid(5)


def shelf(free: Mapping[str, int], n: int = 100, **more: Any) -> Shelf:
    return Shelf(s.uid(n), free, **more)


def one(n: int, *lines: tuple[str, int], **more: Any) -> Waiting:
    needed = tuple(Needed((code,), quantity) for code, quantity in lines)
    return Waiting(s.uid(n), n, needed, **more)


def test_the_first_in_line_who_can_have_everything_is_served() -> None:
    both = one(1, ("A", 1), ("B", 1))
    second, third = one(2, ("A", 1)), one(3, ("A", 1))
    # Who lacks another drug lets the next pass, and no pack is promised twice.
    assert set(line_up([third, both, second], [shelf({"A": 1})])) == {second.order_id}
    served = line_up([third, both, second], [shelf({"A": 2, "B": 1})])
    assert set(served) == {both.order_id, second.order_id}
    assert served[both.order_id].packs == {"A": 1, "B": 1}


def test_not_the_same_pack_for_two_lines_and_not_two_pharmacies_for_one_order() -> None:
    assert not line_up([one(1, ("A", 2), ("A", 2))], [shelf({"A": 3})])
    apart = [shelf({"A": 9}), shelf({"B": 9}, 101)]
    assert not line_up([one(1, ("A", 1), ("B", 1))], apart)


def test_another_maker_fills_and_the_pharmacy_must_be_allowed_to() -> None:
    anybody = Waiting(s.uid(1), 1, (Needed(("A", "A2"), 2),))
    assert line_up([anybody], [shelf({"A": 1, "A2": 2})])[s.uid(1)].packs == {"A2": 2}
    for more, refusing in (
        ({"insured": True}, {"designated": False}),
        ({"cold": True}, {"cold_chain": False}),
        ({"controlled": frozenset({"p2"})}, {"controlled": frozenset({"p1"})}),
    ):
        patient = one(1, ("A", 1), **more)
        assert not line_up([patient], [shelf({"A": 1}, **refusing)])
        assert line_up([patient], [shelf({"A": 1}, controlled=frozenset({"p2"}))])


LINES = st.lists(st.tuples(st.sampled_from(CODES), st.integers(1, 3)), min_size=1, max_size=3)
SHELVES = st.lists(st.dictionaries(st.sampled_from(CODES), st.integers(0, 6)), max_size=4)


@settings(deadline=None)
@drawn(people=st.lists(LINES, max_size=8), shelves=SHELVES, mixed=st.randoms())
def test_nothing_is_promised_twice_and_the_order_of_rows_changes_nothing(
    people: list[list[tuple[str, int]]], shelves: list[dict[str, int]], mixed: Any
) -> None:
    line = [one(n, *lines) for n, lines in enumerate(people)]
    there = [shelf(free, 100 + n) for n, free in enumerate(shelves)]
    served = line_up(line, there)
    taken: dict[tuple[UUID, str], int] = {}
    for got in served.values():
        for code, packs in got.packs.items():
            taken[got.pharmacy_id, code] = taken.get((got.pharmacy_id, code), 0) + packs
    free = {(s.uid(100 + n), code): f for n, has in enumerate(shelves) for code, f in has.items()}
    assert all(packs <= free[pair] for pair, packs in taken.items())
    # Nobody is passed over who could be served with what those before leave.
    for person in line:
        if person.order_id in served:
            continue
        before = [other for other in line if other.position < person.position]
        assert person.order_id not in line_up([*before, person], there)
    mixed.shuffle(line)
    mixed.shuffle(there)
    assert line_up(line, there) == served


class TheLine(RuleBasedStateMachine):
    """People, one shelf and time, through the very decisions; the tables are played."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = NOW
        self.people: dict[UUID, State] = {}
        self.quantity: dict[UUID, int] = {}
        self.position: dict[UUID, int] = {}
        self.asked: dict[UUID, int] = {}
        self.held: dict[UUID, int] = {}
        self.ordered: set[UUID] = set()
        self.counted = 0
        self.places = 0

    @property
    def free(self) -> int:
        return self.counted - sum(self.held.values())

    def in_line(self, *lines: Line) -> list[UUID]:
        people = [key for key, state in self.people.items() if state.line in lines]
        return sorted(people, key=lambda key: (self.position[key], key))

    def tell(self, key: UUID, message: Any, found: Any = None, *, hospital: bool = False) -> Told:
        actor = s.HOSPITAL if hospital else None
        facts = facts_for(key, found=found, actor=actor)
        told = Given(domain, self.people[key]).when(message, now=self.now, facts=facts)
        self.people[key] = told.state
        for event in told.decision.events:
            if isinstance(event, Held):
                self.held[key] = sum(event.packs.values())
            elif isinstance(event, PatientAsked):
                self.asked[key] = self.asked.get(key, 0) + 1
            elif isinstance(event, ShortageEnded):
                self.held.pop(key, None)
        return told

    @rule(quantity=st.integers(1, 3), keeps=st.booleans())
    def register(self, quantity: int, keeps: bool) -> None:
        key = s.uid(10_000 + len(self.people))
        may = [
            k for k in self.in_line(Line.WAITING, Line.ASKED, Line.KEPT) if k not in self.ordered
        ]
        place = may[0] if keeps and may else None
        line = s.LINES[0].model_copy(update={"quantity": quantity})
        order = s.order(order_id=key, lines=(line,))
        came = s.authorised().model_copy(update={"order_id": key, "order": order})
        self.people[key] = domain.initial()
        self.tell(key, came, Opened(keeps=place))
        found = s.matched(None, *((tier, GateCode.NO_STOCK) for tier in LADDER)).found
        self.tell(key, s.match_timer(), found)
        if place is None:
            self.places += 1
            self.position[key] = self.places
        else:
            self.position[key] = self.position[place]
            self.ordered.add(place)
            self.held.pop(place, None)
        self.quantity[key] = quantity

    @rule(packs=st.integers(0, 6))
    def count(self, packs: int) -> None:
        self.counted = packs

    @rule(twice=st.booleans())
    def look(self, twice: bool) -> None:
        """Every timer of the line is due, perhaps delivered once more."""
        for _ in range(2 if twice else 1):
            for key in self.in_line(Line.WAITING):
                line = [
                    Waiting(k, self.position[k], (Needed((CODES[0],), self.quantity[k]),))
                    for k in self.in_line(Line.WAITING)
                    if k not in self.ordered
                ]
                free = {CODES[0]: self.free}
                served = line_up(line, [shelf(free)])
                before = [w for w in line if w.position < self.position[key]]
                told = self.tell(key, s.timer("shortage"), served.get(key))
                if key in served:
                    told.then_types(Held, PatientAsked)
                    assert not [
                        w
                        for w in before
                        if w.order_id not in served and w.lines[0].quantity <= self.free
                    ]

    @precondition(lambda self: self.in_line(Line.ASKED))
    @rule(word=st.sampled_from([YES, NO, ""]), data=st.data())
    def hear(self, word: str, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.in_line(Line.ASKED)))
        ask = self.people[key].ask
        assert ask is not None
        place = Place(key in self.ordered)
        if word:
            command = s.answer(word, ask.ask_id).model_copy(update={"order_id": key})
            self.tell(key, command, place, hospital=True)
        else:
            self.tell(key, s.timer("ask", str(ask.ask_id)), place)

    @precondition(lambda self: self.in_line(Line.KEPT))
    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.in_line(Line.KEPT)))
        self.tell(key, s.timer("place"), Place(key in self.ordered))

    @invariant()
    def asked_once_each(self) -> None:
        assert all(times == 1 for times in self.asked.values())

    @invariant()
    def packs_are_kept_for_who_was_asked_alone(self) -> None:
        for key in self.held:
            assert self.people[key].line in (Line.ASKED, Line.KEPT)
        waiting_for = self.in_line(Line.ASKED)
        assert all(key in self.held for key in waiting_for if key not in self.ordered)

    @invariant()
    def a_place_is_kept(self) -> None:
        for key, state in self.people.items():
            if state.place is not None:
                assert self.position[key] == self.position[state.place]
                assert state.phase is Phase.ENDED


TestTheLine = TheLine.TestCase
TestTheLine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
