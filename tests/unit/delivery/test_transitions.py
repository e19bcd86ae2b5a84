"""Every message in every state: the whole state machine as one table."""

from schemas.message import Event
from services.delivery import domain
from services.kit.decision import CallAnswered, CallOutcome, Message, Verdict
from services.kit.spec import NOW
from tests.unit.delivery.story import (
    STATES,
    actor_of,
    assigned,
    bring_back,
    closed,
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

# A applied, S stale, E early; every other word is the code of an invalid one.
CODES = {
    "live": "attempt_live",
    "what": "attempt_unknown",
    "unsl": "settled_unsealed",
    "late": "declined_after_release",
    "road": "closed_on_the_way",
    "fwd": "forward_without_assignment",
    "404": "not_found",
    "tokn": "token_refused",
    "canc": "order_cancelled",
    "over": "order_ended",
    "conf": "not_confirmed",
    "prce": "not_priced",
    "gone": "already_picked_up",
    "end": "attempt_ended",
    "who": "no_courier",
    "wait": "not_picked_up",
    "done": "already_delivered",
    "back": "already_returned",
    "home": "not_for_collection",
}
COLUMNS = (
    "unknown assigned priced confirmed picking sealed released riding "
    "delivered returned failed cancelled let_go tombstone done"
)
ROWS: dict[str, tuple[Message, str]] = {
    #              unkn assi pric conf pick seal rele ridi deli retu fail canc let  tomb done
    "assigned 1": (assigned(), "A S S S S S S S S S S S S S S"),
    "assigned 2": (
        assigned(2),
        "A live live live live live live live live live A live S S S",
    ),
    "priced 1": (priced(), "E A S A S S S S S S S S S S S"),
    "priced 2": (
        priced(2),
        "E what what what what what what what what what E what S S S",
    ),
    "settled 1": (settled(), "E unsl unsl unsl unsl A S S S S S S S S S"),
    "settled 2": (
        settled(2),
        "E what what what what what what what what what E what S S S",
    ),
    "declined 0": (declined(0), "A A A A A A late late late late A A S S S"),
    "declined 1": (declined(), "E A A A A A late late late late A A S S S"),
    "declined 2": (
        declined(2),
        "E what what what what what what what what what E what S S S",
    ),
    "closed": (closed(), "A A A A A A road road A A A A A S S"),
    "forwarded 1": (forwarded(), "fwd A A A A A A A A A S A A A A"),
    "forwarded 2": (
        forwarded(2),
        "fwd fwd fwd fwd fwd fwd fwd fwd fwd fwd fwd fwd A A A",
    ),
    "confirm": (confirm(), "404 A A S S S S S S S tokn canc over 404 S"),
    "seal": (seal(), "404 conf conf prce A S S S S S tokn canc over 404 S"),
    "give back": (give_back(), "404 A A A A A A gone gone gone S canc over 404 gone"),
    "courier": (courier(), "404 404 404 A A A S S S S end 404 end 404 S"),
    "pick up": (pick_up(), "404 404 404 who who who A S S S end 404 end 404 S"),
    "hand over": (hand_over(), "404 404 404 who who who wait A S back end 404 end 404 S"),
    "hand out": (
        hand_out(),
        "404 home home home home home home home home home home home home 404 home",
    ),
    "bring back": (bring_back(), "404 404 404 who who who wait A done S end 404 end 404 done"),
    "confirm timer": (timer("confirm"), "S A A S S S S S S S S S S S S"),
    "seal timer": (timer("seal"), "S S S A A S S S S S S S S S S"),
    "pick-up timer": (timer("pick_up"), "S S S S S S A S S S S S S S S"),
    "promise timer": (timer("promise"), "S A A A A A A A S S S S S S S"),
    "fleet answers": (
        CallAnswered("fleet_job", "1:fleet", CallOutcome.UNKNOWN, {}),
        "S S S S S S S S S S S S S S S",
    ),
}


def check(name: str, state: str) -> str:
    """The verdict as the table writes it."""
    message, _ = ROWS[name]
    decision = domain.decide(STATES[state], message, NOW, facts(actor_of(message)))
    if decision.verdict is Verdict.INVALID:
        return decision.code
    assert decision.events or decision.verdict is not Verdict.APPLIED, "applied with no effect"
    return decision.verdict.value[0].upper()


def test_every_message_in_every_state() -> None:
    columns = COLUMNS.split()
    assert columns == list(STATES)
    for name, (_, row) in ROWS.items():
        expected = [CODES.get(cell, cell) for cell in row.split()]
        got = [check(name, state) for state in columns]
        wrong = [cell for cell in zip(columns, expected, got, strict=True) if cell[1] != cell[2]]
        assert not wrong, f"{name}: {wrong}"


def test_the_table_has_every_type_that_delivery_acts_on() -> None:
    shown = {type(message) for message, _ in ROWS.values()}
    assert shown == set(domain.HANDLERS)


def test_handlers_match_the_contract() -> None:
    from schemas import flow

    handled = {kind for kind in domain.HANDLERS if issubclass(kind, Event)}
    assert handled == flow.consumed("delivery")
    assert set(flow.INTAKE["delivery"]) <= set(domain.HANDLERS)
