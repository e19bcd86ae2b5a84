"""The list: each invariant by its name, with what its examined count counts."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from services.commands.invariants import gates, machinery, money, orders, privacy, road, waiting
from services.commands.invariants.evidence import Evidence, Finding


class Invariant(NamedTuple):
    """`what` says what must hold, and behind the semicolon what was counted."""

    what: str
    look: Callable[[Evidence], Awaitable[Finding]]


INVARIANTS: Mapping[str, Invariant] = {
    "I1": Invariant(
        "every order is closed once, in flight, early or parked; orders issued", orders.closed_once
    ),
    "I2": Invariant("only allowed transitions; steps of all orders", road.only_allowed_transitions),
    "I3": Invariant(
        "transfers sum to zero, what is undone nets to zero, all three books agree; transfers",
        money.money_adds_up,
    ),
    "I4": Invariant(
        "nothing reserved twice, beyond a slot or for a closed order; reservations",
        money.stock_adds_up,
    ),
    "I5": Invariant(
        "one accepted offer an attempt, and that pharmacy dispenses; assignments, confirmations "
        "and parcels",
        orders.one_accepted_offer,
    ),
    "I6": Invariant("the audit chains are unbroken; audit rows", machinery.audit_unbroken),
    "I7": Invariant(
        "every outbox event is on its topic, and nothing else; published rows",
        machinery.outbox_is_published,
    ),
    "I8": Invariant("each event took effect once per consumer; inbox rows", machinery.effect_once),
    "I9": Invariant("positions never go back; positions", machinery.positions_move_forward),
    "I10": Invariant(
        "versions of an order have no holes; numbered events", machinery.versions_without_holes
    ),
    "I11": Invariant("nothing in flight is overdue; orders issued", orders.nothing_overdue),
    "I12": Invariant(
        "every message is taken in or parked, and every parked one accounted for; messages read "
        "and dead letters",
        machinery.dead_letters_accounted,
    ),
    "I13": Invariant("no clear personal data; messages and log lines", privacy.nobody_in_the_clear),
    "I14": Invariant(
        "nothing crosses a tenant; feed entries and facts", privacy.nothing_crosses_a_tenant
    ),
    "I15": Invariant(
        "no drug left without an approved review; lines of parcels that left",
        orders.reviewed_before_it_left,
    ),
    "I16": Invariant("nothing left unscanned or unpaid; packs that left", orders.scanned_and_paid),
    "I17": Invariant(
        "locks are taken in one order, without a deadlock; transactions",
        machinery.nobody_waits_in_a_circle,
    ),
    "I18": Invariant(
        "who waits for a drug keeps the place, is asked once and in turn, and no pack is kept for "
        "two; orders issued",
        waiting.everybody_has_a_place,
    ),
    "I19": Invariant(
        "no offer broke a hard gate, by an independent verifier from the facts alone; offers made",
        gates.no_gate_is_broken,
    ),
}
