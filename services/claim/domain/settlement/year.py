"""What a settlement does to the year's figures, and how an undo takes exactly that back."""

from collections.abc import Iterable, Mapping

from services.claim.domain.settlement.claim import ClaimRefused, Settlement, YearFigures
from services.claim.domain.settlement.policy import Reading, UndoOrder


def after(used: YearFigures, settlement: Settlement) -> YearFigures:
    """The year's figures with this settlement in them."""
    return _moved(used, settlement, 1)


def undone(
    reading: Reading, used: YearFigures, settlements: Iterable[Settlement], which: Settlement
) -> YearFigures:
    """The figures without one of the year's settlements, given in the order they were made.

    Later ones are not recomputed. Raises ClaimRefused when the area undoes only the latest.
    """
    standing = list(settlements)
    if which not in standing:
        raise ClaimRefused("no_settlement", "setl_id", "it does not stand, so it cannot be undone")
    if reading.undo_order is UndoOrder.LATEST_FIRST and standing[-1] != which:
        raise ClaimRefused("not_latest", "setl_id", "only the latest settlement can be undone here")
    return _moved(used, which, -1)


def _moved(used: YearFigures, settlement: Settlement, sign: int) -> YearFigures:
    groups = settlement.benefits
    return YearFigures(
        deductible=_sum(used.deductible, ((g.pool, sign * g.deductible_fen) for g in groups)),
        past_deductible=_sum(
            used.past_deductible, ((g.pool, sign * g.past_deductible_fen) for g in groups)
        ),
        fund=_sum(used.fund, ((g.pool, sign * g.fund_fen) for g in groups)),
        in_scope=_sum(used.in_scope, ((g.pool, sign * g.in_scope_fen) for g in groups)),
        burden_fen=used.burden_fen + sign * settlement.burden_fen,
        supplements=_sum(
            used.supplements, ((kind.value, sign * fen) for kind, fen in settlement.supplements)
        ),
    )


def _sum(figures: Mapping[str, int], moves: Iterable[tuple[str, int]]) -> dict[str, int]:
    moved = dict(figures)
    for name, fen in moves:
        moved[name] = moved.get(name, 0) + fen
    return {name: fen for name, fen in moved.items() if fen}
