"""The seven domains and the kit's own fold, without database, broker or waiting.

What the shell keeps in tables stands in dictionaries here; what a service looks up is made from
the same parts. Time, payer and people are in the hands of who drives it.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from schemas import flow
from schemas.delivery import SealParcel
from schemas.envelope import Attributes
from schemas.message import Event, OrderEvent
from schemas.network import Pharmacy, PharmacyChanged
from schemas.prescription import (
    ClinicalOrder,
    CorrectPrescription,
    PrescriptionCorrected,
    PrescriptionIssued,
    SubmitOrder,
)
from schemas.values import Tier
from services.dispatch.domain.candidates import CityIndex, Pair, Supply, Wanted
from services.dispatch.domain.choose import choose_many
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.found import Matched, Recounted
from services.dispatch.domain.matching import EVERY_TIER, MATCH, RECHECK, wanted
from services.dispatch.domain.state import Phase, State, Terms
from services.dispatch.domain.terms import Unserved, terms_for
from services.kit.decision import (
    Actor,
    Call,
    CallAnswered,
    CallOutcome,
    SetTimer,
    TimerFired,
    Verdict,
)
from services.kit.ids import new_id
from services.kit.service import Incoming, Record, Source
from services.kit.spec import NOW
from services.kit.unit import Entry, Result, TimerKey, Unit
from services.network.domain import CityFound, CountsFound
from services.ops.domain.audience import Audience, Found
from services.prescription.making import PreparedCorrection
from services.review.domain.reading import Known
from tests.simulation.outside import FarSides
from tests.simulation.people import ZONE, Move, Road, founding, submitted
from tests.simulation.referee import Referee
from tests.simulation.roster import SERVICES
from tests.unit.prescription.examples import clinical, prepared, sealed

AUDIENCE = Audience()
PHARMACIES, PACKS = 4, 1000
ROUNDS_MAX = 400
ENOUGH = 1000
ON_FOOT = City(tiers=frozenset({Tier.PICK_UP}))


@dataclass
class OpenCall:
    """An outside call that waits for its answer."""

    order_id: UUID
    call: Call

    @property
    def key(self) -> str:
        """As the completer makes it."""
        return f"{self.order_id}:{self.call.kind}:{self.call.ref}"


@dataclass
class Node:
    """What one service has stored."""

    name: str
    entries: dict[UUID, Entry] = field(default_factory=dict)
    inbox: set[UUID] = field(default_factory=set)
    timers: dict[TimerKey, SetTimer] = field(default_factory=dict)
    read: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


class Memory:
    """All seven, one order at a time through each hand-over."""

    def __init__(self, seed: int, orders: int = 1, *, on_foot: bool = False) -> None:
        self.rng = Random(seed)
        # Nobody rides: all that a patient can be offered is to collect it.
        self.on_foot = on_foot
        self.now = NOW
        self.far = FarSides(self.rng, refuses=0.0)
        self.nodes = {name: Node(name) for name in SERVICES}
        self.topics: dict[str, list[Incoming]] = {topic: [] for topic in flow.topics()}
        self.calls: list[OpenCall] = []
        self.referees: defaultdict[UUID, Referee] = defaultdict(Referee)
        self.actors = _actors()
        self.pharmacies: list[Pharmacy] = []
        self._clinical: dict[UUID, ClinicalOrder] = {}
        self._numbers: dict[str, UUID] = {}
        self._by_id: dict[UUID, Road] = {}
        for move in founding(self.actors, PHARMACIES, PACKS, self.now):
            self.send(move)
        self.index = CityIndex(self.pharmacies)
        codes = itertools.count(1)
        self.roads = [
            Road(
                submitted(n, self.rng, self.now),
                self.actors,
                self.rng,
                codes,
                code_of=self._code if on_foot else None,
            )
            for n in range(orders)
        ]

    # What may happen next.

    def unread(self) -> list[tuple[str, str]]:
        """(service, topic) pairs with something to read."""
        return [
            (name, topic)
            for name, node in self.nodes.items()
            for topic in flow.inputs(name)
            if node.read[topic] < len(self.topics[topic])
        ]

    def armed(self) -> list[tuple[str, TimerKey]]:
        """Every timer that is set, the next one first."""
        timers = [(n.name, key) for n in self.nodes.values() for key in n.timers]
        return sorted(timers, key=lambda item: self.nodes[item[0]].timers[item[1]].due_at)

    def moves(self, *, aside: bool) -> list[Move]:
        """What people may do."""
        each = [road.sideways() if aside else road.forward() for road in self.roads]
        return [move for moves in each for move in moves]

    # Doing it.

    def deliver(self, name: str, topic: str) -> None:
        """The next record of one topic."""
        node = self.nodes[name]
        incoming = self.topics[topic][node.read[topic]]
        node.read[topic] += 1
        self._hand(node, incoming)

    def deliver_again(self, name: str, topic: str, offset: int) -> None:
        """A record that was read before."""
        self._hand(self.nodes[name], self.topics[topic][offset])

    def catch_up(self, name: str) -> None:
        """Read to the ends of all topics, as before a timer may fire."""
        while topics := [topic for service, topic in self.unread() if service == name]:
            self.deliver(name, self.rng.choice(topics))

    def fire(self, name: str, key: TimerKey) -> None:
        """Time runs up to this timer; whatever was written before is read, then it is looked at."""
        node = self.nodes[name]
        self.now = max(self.now, node.timers[key].due_at)
        self.catch_up(name)
        timer = node.timers.get(key)
        if timer is None or timer.due_at > self.now:
            return
        fired = TimerFired(timer.kind, timer.ref, timer.due_at, timer.data)
        tenant = node.entries[key[0]].tenant_id
        self._take(node, Incoming(new_id(), key[0], tenant, fired, Source.TIMER))

    def answer(self, open_call: OpenCall, outcome: CallOutcome, *, arrived: bool) -> None:
        """What became of an outside call; an unknown one arrived, or not, or will."""
        call = open_call.call
        self.calls.remove(open_call)
        response: Mapping[str, Any] = {"code": "not_eligible"}
        if outcome is CallOutcome.DONE or arrived:
            reply = self.far.act(call.kind, call.request, open_call.key)
            if outcome is not CallOutcome.UNKNOWN:
                outcome, response = reply.outcome, reply.response
        elif outcome is CallOutcome.UNKNOWN:
            self.far.in_the_air.append((call.kind, call.request, open_call.key))
        answered = CallAnswered(call.kind, call.ref, outcome, response)
        node = self.nodes["claim"]
        tenant = node.entries[open_call.order_id].tenant_id
        self._take(node, Incoming(new_id(), open_call.order_id, tenant, answered, Source.CALL))

    def send(self, move: Move) -> Result:
        """A command."""
        service, message_id = SERVICES[move.service], new_id()
        key = service.key_of(move.command, message_id)
        incoming = Incoming(
            message_id, key, move.actor.tenant_id, move.command, Source.HTTP, move.actor
        )
        result = self._take(self.nodes[move.service], incoming)
        road = self._by_id.get(key)
        if road is not None and result.answer:
            road.told(result.answer)
        return result

    def pass_time(self, by: timedelta) -> None:
        """Nothing fires by itself."""
        self.now += by

    def heal(self) -> None:
        """Everything that is on its way arrives, people go on, time runs: until nothing moves."""
        for _ in range(ROUNDS_MAX):
            while self.far.in_the_air:
                self.far.land()
            while pairs := self.unread():
                self.deliver(*self.rng.choice(pairs))
            moves = self.moves(aside=False)
            self.rng.shuffle(moves)
            if self.calls:
                self.answer(self.rng.choice(self.calls), CallOutcome.DONE, arrived=True)
            elif any(self.send(move).verdict is Verdict.APPLIED for move in moves):
                continue
            elif timers := self.armed():
                self.fire(*timers[0])
            else:
                return
        raise AssertionError("it never comes to rest")

    def rest(self) -> None:
        """Nothing moves any more: nothing may be left."""
        for order_id, road in self._by_id.items():
            assert road.outcome is not None, "never closed"
            self.referees[order_id].rest()
        for node in self.nodes.values():
            left = [w.incoming.message for e in node.entries.values() for w in e.waiting]
            assert not left, f"{node.name} still holds early {left}"
        assert not self.calls, "a call was never answered"
        self._compare_books()

    def _compare_books(self) -> None:
        ledgers = self.far.ledgers()
        for row in ledgers["payment"]:
            assert not row["held_fen"], "a share is held for ever"
        theirs = sum(row["fund_fen"] + row["account_fen"] for row in ledgers["payer"])
        theirs += sum(row["captured_fen"] for row in ledgers["payment"])
        ours = 0
        for referee in self.referees.values():
            ours += sum(fen for account, fen in referee.books.items() if account == "pharmacy")
        assert ours == theirs, "our books are not theirs"

    # How it is done.

    def _hand(self, node: Node, incoming: Incoming) -> None:
        if type(incoming.message) not in SERVICES[node.name].consumed:
            return
        if incoming.id in node.inbox:
            return
        node.inbox.add(incoming.id)
        self._take(node, incoming)

    def _take(self, node: Node, incoming: Incoming) -> Result:
        service = SERVICES[node.name]
        key = incoming.key
        fresh = Entry(key, incoming.tenant_id, 0, service.initial(), None, known=False)
        entry = node.entries.get(key, fresh)
        waiting = [w.incoming for w in entry.waiting]
        found = {item.id: self._look_up(node.name, item, entry) for item in (*waiting, incoming)}
        unit = Unit(service, self.now, {key: entry}, found)
        result = unit.process(incoming)
        assert not unit.parked, f"{node.name} parked {unit.parked[0]}"
        if entry.dirty or entry.waiting:
            node.entries[key] = entry
        self._store(node, unit)
        return result

    def _store(self, node: Node, unit: Unit) -> None:
        for key, timer in unit.timers.items():
            node.timers.pop(key, None)
            if timer is not None:
                node.timers[key] = timer
        self.calls += [OpenCall(entry.key, call) for entry, call in unit.calls]
        for change in unit.changes:
            referee = self.referees[change.key]
            for fact in change.events:
                referee.note(fact)
            for published in change.published:
                if isinstance(published.event, OrderEvent):
                    referee.publish(node.name, published)
        for row in unit.outbox:
            if row.topic in self.topics:
                self._append(row.topic, row.event_id, row.key, row.tenant_id, row.event)

    def _append(self, topic: str, event_id: UUID, key: UUID, tenant_id: UUID, event: Event) -> None:
        records = self.topics[topic]
        record = Record(topic, 0, len(records), str(key).encode(), b"", ())
        attributes = Attributes(
            event_id, event.TYPE, event.VERSION, topic, self.now, str(key), tenant_id
        )
        records.append(
            Incoming(
                event_id,
                key,
                tenant_id,
                event,
                Source.RECORD,
                record=record,
                attributes=attributes,
            )
        )
        match event:
            case PrescriptionIssued():
                number = event.order.order_number
                self._by_id[key] = next(r for r in self.roads if r.order.order_number == number)
            case PharmacyChanged():
                self.pharmacies.append(event.pharmacy)
        if key in self._by_id:
            self._by_id[key].hear(event)

    def _look_up(self, name: str, item: Incoming, entry: Entry) -> Any:
        look = _LOOKUPS.get(name)
        return look(self, item, entry) if look else None

    def _prescription(self, item: Incoming, entry: Entry) -> Any:
        match item.message:
            case SubmitOrder() as command:
                earlier = self._numbers.setdefault(command.order_number, item.key)
                if earlier != item.key:
                    return prepared(command, earlier_order=earlier, earlier_same=True)
                count = sum(len(sheet.lines) for sheet in command.prescriptions)
                self._clinical[item.key] = clinical(command)
                return prepared(command, line_ids=tuple(new_id() for _ in range(count)))
            case CorrectPrescription() as command:
                sheet = command.prescription
                known = self._clinical[item.key]
                sheets = tuple(
                    sheet if old.prescription_id == sheet.prescription_id else old
                    for old in known.prescriptions
                )
                self._clinical[item.key] = known.model_copy(update={"prescriptions": sheets})
                ids = tuple(new_id() for _ in sheet.lines)
                digest = f"{sheet.prescription_id}.{sheet.version}"
                return PreparedCorrection(clinical=sealed(5), line_ids=ids, digest=digest)
        return None

    def _review(self, item: Incoming, entry: Entry) -> Any:
        wanted_here = isinstance(item.message, PrescriptionIssued | PrescriptionCorrected)
        return Known(self._clinical[item.key]) if wanted_here else None

    def _code(self, order_id: UUID) -> str:
        """As the hospital's application shows it."""
        last = self.nodes["delivery"].entries[order_id].state.last
        return str(last.code)

    def _dispatch(self, item: Incoming, entry: Entry) -> Any:
        match item.message:
            case TimerFired(kind=kind) if kind == MATCH and entry.state.phase is Phase.SEEKING:
                supply = Supply()
                order = wanted(entry.state, frozenset() if self.on_foot else EVERY_TIER)
                while True:
                    found = choose_many(self.index, [order], supply, self.now)
                    terms, missing = self._terms(entry.state, order, supply)
                    if not found.missing | missing:
                        return Matched(found.matches[item.key], terms=terms)
                    supply.free |= dict.fromkeys(found.missing | missing, ENOUGH)
            case TimerFired(kind=kind) if kind == RECHECK:
                return Recounted(short=False)
        return None

    def _terms(
        self, state: State, order: Wanted, supply: Supply
    ) -> tuple[tuple[Terms, ...], set[Pair]]:
        """What may be put to a patient, whether or not it will have to be."""
        if not self.on_foot or state.order is None:
            return (), set()
        rung = order.rungs[-1]
        unserved = Unserved(order, rung.tier, rung.due_at, state.order.expires_at)
        return terms_for(self.index, ON_FOOT, unserved, supply, self.now)

    def _delivery(self, item: Incoming, entry: Entry) -> Any:
        return {} if isinstance(item.message, SealParcel) else None

    def _network(self, item: Incoming, entry: Entry) -> Any:
        counts = item.message.TYPE == "network.CountStock"  # type: ignore[union-attr]
        return CountsFound({}) if counts else CityFound(ZONE)

    def _ops(self, item: Incoming, entry: Entry) -> Any:
        return Found(self.now, AUDIENCE)


_LOOKUPS: dict[str, Callable[[Memory, Incoming, Entry], Any]] = {
    "prescription": Memory._prescription,
    "review": Memory._review,
    "dispatch": Memory._dispatch,
    "delivery": Memory._delivery,
    "network": Memory._network,
    "ops": Memory._ops,
}


def _actors() -> dict[str, Actor]:
    kinds = {
        "hospital-a": "hospital",
        "reviewers": "reviewer",
        "chain-a": "pharmacy_chain",
        "fleet-a": "courier",
        "operations": "operator",
    }
    return {name: Actor(new_id(), kind, name) for name, kind in kinds.items()}
