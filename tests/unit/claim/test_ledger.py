"""Double entry: what each movement of money writes."""

from services.claim.domain.notes import (
    Captured,
    Held,
    Refunded,
    Released,
    SettlementMade,
    SettlementUndone,
)
from services.claim.ledger import Transfer, transfer_of
from services.kit.decision import Note
from tests.unit.claim import story as s


def check(fact: Note, kind: str, **entries: int) -> None:
    transfer = transfer_of(fact)
    assert isinstance(transfer, Transfer)
    assert (transfer.attempt, transfer.kind) == (2, kind)
    assert {account.value: fen for account, fen in transfer.entries} == entries


def test_each_movement_is_balanced_and_has_its_opposite() -> None:
    check(Held(attempt=2, ref="2.1", cash_fen=15), "hold", patient=-15, clearing=15)
    check(Released(attempt=2, cash_fen=15), "release", patient=15, clearing=-15)
    check(Captured(attempt=2, cash_fen=15), "capture", clearing=-15, pharmacy=15)
    check(Refunded(attempt=2, cash_fen=15), "refund", pharmacy=-15, patient=15)
    paid = {"attempt": 2, "settlement_id": "S-1", "fund_fen": 80, "account_fen": 5}
    made, undone = SettlementMade(**paid), SettlementUndone(**paid)
    check(made, "settlement", fund=-80, personal_account=-5, pharmacy=85)
    check(undone, "undo", fund=80, personal_account=5, pharmacy=-85)


def test_who_pays_nothing_has_no_entry() -> None:
    paid = {"attempt": 2, "settlement_id": "S-1", "fund_fen": 80, "account_fen": 0}
    check(SettlementMade(**paid), "settlement", fund=-80, pharmacy=80)
    nothing = SettlementMade(**{**paid, "fund_fen": 0})
    assert transfer_of(nothing) is None


def test_other_facts_move_nothing() -> None:
    story = s.settled()
    moved = [type(fact).__name__ for fact in story.facts if transfer_of(fact)]
    assert moved == ["Held", "SettlementMade", "Captured"]
