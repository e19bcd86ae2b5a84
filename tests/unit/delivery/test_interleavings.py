"""Whatever comes in whatever order: nothing leaves unscanned or unpaid, one end an attempt."""

from collections import Counter, deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import claim, delivery, dispatch
from schemas.delivery import ScanInput
from schemas.message import Event
from schemas.values import CancelCause, Tier
from services.delivery import domain
from services.delivery.domain.codes import CodeState, KnownCode
from services.delivery.domain.state import AttemptOpened
from services.kit.decision import Decision, Message, Note, Verdict
from services.kit.spec import NOW
from tests.unit.delivery.story import (
    DUE,
    FIRST,
    LINE_A,
    LINE_B,
    SECOND,
    actor_of,
    assigned,
    bring_back,
    closed,
    code,
    confirm,
    courier,
    declined,
    facts,
    forwarded,
    give_back,
    hand_out,
    hand_over,
    pick_up,
    priced,
    seal,
    settled,
    timer,
)

ATTEMPT = st.integers(1, 3)
SERIAL = st.integers(1, 3)
ENDS = (
    delivery.AttemptFailed,
    delivery.ParcelDelivered,
    delivery.ParcelReturned,
    delivery.DeliveryCancelled,
)


def _scan(attempt: int, serial: int) -> Message:
    codes = (code(FIRST.trace_prefix, serial), code(FIRST.trace_prefix, serial + 1))
    other = (code(SECOND.trace_prefix, serial),)
    scans = (ScanInput(line_id=LINE_A, codes=codes), ScanInput(line_id=LINE_B, codes=other))
    return seal(attempt, scans=scans)


def _to_collect(attempt: int) -> dispatch.PharmacyAssigned:
    """Ready when another would be at the door; the patient has an hour."""
    until = DUE + timedelta(hours=1)
    return assigned(attempt, tier=Tier.PICK_UP, not_before=DUE, due_at=until)


MAKERS: tuple[Callable[[int], Message], ...] = (
    assigned,
    _to_collect,
    priced,
    settled,
    declined,
    confirm,
    give_back,
    courier,
    pick_up,
    hand_over,
    hand_out,
    bring_back,
)
ANY: st.SearchStrategy[Message] = st.one_of(
    *(st.builds(make, ATTEMPT) for make in MAKERS),
    st.builds(_scan, ATTEMPT, SERIAL),
    st.builds(forwarded, ATTEMPT, st.sampled_from(CancelCause)),
    st.builds(timer, st.sampled_from(["promise", "confirm", "seal", "pick_up"]), ATTEMPT),
    st.just(closed()),
)
# What usually happens, so that runs get far before they are disturbed.
ROAD: tuple[Message, ...] = (
    assigned(1),
    confirm(1),
    priced(1),
    _scan(1, 1),
    courier(1),
    settled(1),
    pick_up(1),
    hand_over(1),
)
TO_THE_COUNTER = (_to_collect(1), *ROAD[1:], hand_out(1))


class Shelf:
    """The codes of one parcel as the store keeps them, here in memory."""

    def __init__(self) -> None:
        self.codes: dict[str, tuple[CodeState, int]] = {}

    def known(self) -> dict[str, KnownCode]:
        return {name: KnownCode(state, NOW) for name, (state, _) in self.codes.items()}

    def put(self, event: delivery.ParcelSealed) -> None:
        for line in event.lines:
            for name in line.codes:
                assert name not in self.codes, "a code lies in two parcels"
                self.codes[name] = (CodeState.SEALED, event.attempt)

    def free(self, attempt: int) -> None:
        self.codes = {name: row for name, row in self.codes.items() if row[1] != attempt}


class Watch:
    """Looks at everything that was decided for one order."""

    def __init__(self) -> None:
        self.state = domain.initial()
        self.shelf = Shelf()
        self.seen: set[tuple[type[Event], int]] = set()
        self.paid: set[int] = set()
        self.collected: set[int] = set()
        self.ends: Counter[int] = Counter()
        self.breaches: Counter[object] = Counter()
        self.answered: Counter[object] = Counter()

    def take(self, message: Message, minute: int) -> Decision:
        now = NOW + timedelta(minutes=minute)
        found = facts(actor_of(message), self.shelf.known())
        decision = domain.decide(self.state, message, now, found)
        if decision.verdict is Verdict.APPLIED and isinstance(message, claim.ClaimSettled):
            self.paid.add(message.attempt)
        for event in decision.events:
            self._look(event)
            self.state = domain.evolve(self.state, event)
        return decision

    def _look(self, event: Event | Note) -> None:
        if isinstance(event, AttemptOpened) and event.attempt.tier is Tier.PICK_UP:
            self.collected.add(event.attempt.number)
        if isinstance(event, delivery.PromiseBroken):
            self.breaches[event.due_at] += 1
        if isinstance(event, Note | delivery.PromiseBroken | delivery.CancelAnswered):
            return
        attempt = event.model_dump()["attempt"]
        self.seen.add((type(event), attempt))
        assert self.ends[attempt] == 0, "something happened after the end"
        if isinstance(event, delivery.ParcelSealed):
            assert (delivery.PharmacyReviewed, attempt) in self.seen
            self.shelf.put(event)
        if isinstance(event, delivery.ParcelReleased):
            assert (delivery.ParcelSealed, attempt) in self.seen, "released unscanned"
            assert attempt in self.paid, "released unpaid"
        if isinstance(event, delivery.ParcelPickedUp):
            assert (delivery.ParcelReleased, attempt) in self.seen, "left unreleased"
            assert (delivery.CourierAssigned, attempt) in self.seen
        if isinstance(event, delivery.CourierAssigned):
            assert attempt not in self.collected, "somebody rides for what is collected"
        if isinstance(event, delivery.ParcelDelivered | delivery.ParcelReturned):
            assert ((delivery.ParcelPickedUp, attempt) in self.seen) != (attempt in self.collected)
            assert (delivery.ParcelReleased, attempt) in self.seen, "left unreleased"
        if isinstance(event, delivery.AttemptFailed | delivery.DeliveryCancelled):
            assert (delivery.ParcelPickedUp, attempt) not in self.seen, "failed on the road"
            self.shelf.free(attempt)
        if isinstance(event, ENDS):
            self.ends[attempt] += 1


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(ANY, st.integers(0, len(ROAD) - 1).map(ROAD.__getitem__)), max_size=40),
    st.sampled_from(((), ROAD, TO_THE_COUNTER)),
)
def test_no_order_of_arrival_breaks_a_rule(
    messages: list[Message], along: tuple[Message, ...]
) -> None:
    watch = Watch()
    script = [*along, *messages]
    for minute, message in enumerate(script):
        watch.take(message, minute)
        live = [attempt for attempt in watch.state.attempts if attempt.live]
        assert len(live) <= 1
        assert not (live and watch.state.over)
    assert all(count == 1 for count in watch.ends.values() if count)
    assert all(count == 1 for count in watch.breaches.values())


class World:
    """Dispatch and claim in a few lines: each reads what the others wrote, as late as it likes."""

    def __init__(self, watch: Watch, data: st.DataObject) -> None:
        self.watch, self.data = watch, data
        self.dispatch, self.claim = deque[Message](), deque[Message]()
        self.dispatch_reads, self.claim_reads = deque[Event](), deque[Event]()
        self.assigned, self.marked, self.ended, self.failed = 0, False, False, 0
        self.tells = data.draw(st.sampled_from((assigned, _to_collect)))
        self.assign()

    def steps(self) -> list[Callable[[], None]]:
        """What can happen next, people apart."""
        queues: dict[Callable[[], None], deque[Any]] = {
            self.dispatch_told: self.dispatch,
            self.claim_told: self.claim,
            self.dispatch_works: self.dispatch_reads,
            self.claim_works: self.claim_reads,
        }
        return [step for step, queue in queues.items() if queue]

    def assign(self) -> None:
        self.assigned += 1
        self._dispatch_says(self.tells(self.assigned))

    def cancel(self) -> None:
        if not self.marked and not self.ended and self.assigned > self.failed:
            self.marked = True
            self._dispatch_says(forwarded(self.assigned))

    def act(self) -> None:
        """A person does something, at the right time or not."""
        commands = (confirm, _packed, courier, pick_up, hand_over, hand_out, give_back, bring_back)
        command = self.data.draw(st.sampled_from(commands))(self.assigned)
        self._take(command)

    def dispatch_told(self) -> None:
        assert self._read(self.dispatch) is not Verdict.EARLY, "nothing goes before dispatch"

    def claim_told(self) -> None:
        self._read(self.claim)

    def dispatch_works(self) -> None:
        event = self.dispatch_reads.popleft()
        if isinstance(event, delivery.AttemptFailed):
            self.failed = event.attempt
            if self.marked:
                self.claim_reads.append(delivery.DeliveryCancelled(**_cancelled(event)))
            elif self.assigned < 3 and not self.ended:
                self.assign()

    def claim_works(self) -> None:
        event = self.claim_reads.popleft()
        if self.ended:
            return
        if isinstance(event, dispatch.PharmacyAssigned):
            self.claim.append(priced(event.attempt))
        if isinstance(event, delivery.ParcelSealed):
            self._settle(event.attempt)
        if isinstance(event, delivery.ParcelDelivered | delivery.ParcelReturned):
            self._close()
        if isinstance(event, delivery.DeliveryCancelled):
            self._close()

    def _settle(self, attempt: int) -> None:
        if self.data.draw(st.integers(0, 4)):
            self.claim.append(settled(attempt))
            return
        self.claim.append(declined(attempt))
        self._close()

    def _close(self) -> None:
        self.ended = True
        self.claim.append(closed())

    def _dispatch_says(self, event: Any) -> None:
        self.dispatch.append(event)
        self.claim_reads.append(event)

    def _read(self, queue: deque[Message]) -> Verdict:
        decision = self._take(queue[0])
        assert decision.verdict is not Verdict.INVALID, f"{queue[0]!r}: {decision.detail}"
        if decision.verdict is not Verdict.EARLY:
            queue.popleft()
        return decision.verdict

    def _take(self, message: Message) -> Decision:
        decision = self.watch.take(message, 0)
        for event in decision.events:
            if isinstance(event, Event):
                self.dispatch_reads.append(event)
                self.claim_reads.append(event)
        return decision


def _packed(attempt: int) -> Message:
    return _scan(attempt, attempt * 10)


def _cancelled(event: delivery.AttemptFailed) -> dict[str, Any]:
    return {
        "order_id": event.order_id,
        "attempt": event.attempt,
        "cause": CancelCause.PATIENT,
        "pharmacy_id": event.pharmacy_id,
    }


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_order_between_topics_is_ever_invalid_or_stuck(data: st.DataObject) -> None:
    world = World(Watch(), data)
    for _ in range(data.draw(st.integers(0, 60))):
        people = [world.act, world.act, world.cancel]
        data.draw(st.sampled_from([*world.steps(), *people]))()
    for _ in range(200):
        steps = world.steps()
        if not steps:
            break
        # Early messages are offered again; what they wait for comes in the meantime.
        for step in steps:
            step()
    assert not world.steps(), "a message waits for ever"
    state = world.watch.state
    assert state.over == world.ended
    assert not (state.over and state.last and state.last.live)
    assert len(state.attempts) <= 3


def test_the_straight_road_ends_at_the_door() -> None:
    watch = Watch()
    for message in ROAD:
        assert watch.take(message, 0).verdict is Verdict.APPLIED
    assert (delivery.ParcelDelivered, 1) in watch.seen
    assert watch.ends == {1: 1}
