"""Double entry in fen: each movement of money is one transfer whose entries sum to zero.

`clearing` is the platform's account at the payment provider, where a held share rests. Fund and
personal account pay the pharmacy directly. What stands outside the claim is the platform's: the
courier's fee, what a broken promise costs (`compensation`, owed to the patient), and what it adds
when kept lines cost the patient more than before. `paid_out` is what of it was paid.
A negative amount left the account.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from schemas.message import Event
from services.claim.domain.notes import (
    Captured,
    Compensated,
    CourierPaid,
    Held,
    MadeGood,
    PartlyRefunded,
    Refunded,
    Released,
    SettlementMade,
    SettlementUndone,
)
from services.kit.decision import Note


class Account(StrEnum):
    """Whose money."""

    PATIENT = "patient"
    FUND = "fund"
    PERSONAL = "personal_account"
    PHARMACY = "pharmacy"
    CLEARING = "clearing"
    PLATFORM = "platform"
    COURIER = "courier"
    COMPENSATION = "compensation"
    PAID_OUT = "paid_out"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement; `entries` are account and signed fen, without zeros."""

    attempt: int
    kind: str
    entries: tuple[tuple[Account, int], ...]
    call_ref: str = ""


def transfer_of(fact: Event | Note) -> Transfer | None:
    """What a fact moves; None when it moves nothing."""
    rule = RULES.get(type(fact))
    return rule(fact) if rule else None


def _move(fact: Any, kind: str, into: Account, sources: Mapping[Account, int]) -> Transfer | None:
    taken = [(account, -fen) for account, fen in sources.items() if fen]
    if not taken:
        return None
    entries = (*taken, (into, -sum(fen for _, fen in taken)))
    return Transfer(fact.attempt, kind, entries, fact.call_ref)


def _turned(transfer: Transfer | None) -> Transfer | None:
    if transfer is None:
        return None
    entries = tuple((account, -fen) for account, fen in transfer.entries)
    return replace(transfer, entries=entries)


def _settlement(fact: SettlementMade | SettlementUndone, kind: str) -> Transfer | None:
    sources = {Account.FUND: fact.fund_fen, Account.PERSONAL: fact.account_fen}
    return _move(fact, kind, Account.PHARMACY, sources)


RULES: Mapping[type, Callable[[Any], Transfer | None]] = {
    Held: lambda f: _move(f, "hold", Account.CLEARING, {Account.PATIENT: f.cash_fen}),
    Captured: lambda f: _move(f, "capture", Account.PHARMACY, {Account.CLEARING: f.cash_fen}),
    SettlementMade: lambda f: _settlement(f, "settlement"),
    SettlementUndone: lambda f: _turned(_settlement(f, "undo")),
    Released: lambda f: _move(f, "release", Account.PATIENT, {Account.CLEARING: f.cash_fen}),
    PartlyRefunded: lambda f: _move(f, "refund", Account.PATIENT, {Account.PHARMACY: f.cash_fen}),
    CourierPaid: lambda f: _move(f, "courier_fee", Account.COURIER, {Account.PLATFORM: f.fen}),
    Compensated: lambda f: _move(
        f, "compensation", Account.COMPENSATION, {Account.PLATFORM: f.fen}
    ),
    MadeGood: lambda f: _move(f, "made_good", Account.PHARMACY, {Account.PLATFORM: f.fen}),
    Refunded: lambda f: _move(f, "refund", Account.PATIENT, {Account.PHARMACY: f.cash_fen}),
}
