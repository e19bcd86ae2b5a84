"""A pack in the dark: asked about every prescription beside the live one, heard by nobody."""

from collections.abc import Sequence
from datetime import datetime

from schemas.prescription import PrescriptionSheet
from schemas.values import Order
from services.review.domain.findings import Compared
from services.review.domain.reading import Known, judge
from services.review.rules import Pack, Verdict
from services.review.rules.shelf import chosen_in_the_dark

FAILED = "failed"


def compared(
    rules: Pack, sheets: Sequence[PrescriptionSheet], known: Known, order: Order, now: datetime
) -> tuple[Compared, ...]:
    """Both packs over these prescriptions; nothing where no other pack stands in the dark."""
    dark = chosen_in_the_dark(order.city, str(order.hospital_id))
    if dark is None:
        return ()
    return tuple(_compared(rules, dark, sheet, known, order, now) for sheet in sheets)


def _compared(
    rules: Pack,
    dark: Pack,
    sheet: PrescriptionSheet,
    known: Known,
    order: Order,
    now: datetime,
) -> Compared:
    live, other = judge(rules, sheet, known, order, now), None
    # Whatever is wrong with a pack that does not stand must not touch the order.
    try:
        other = judge(dark, sheet, known, order, now)
    except Exception:
        other = None
    before, after = _rules(live), _rules(other)
    return Compared(
        prescription_id=sheet.prescription_id,
        version=sheet.version,
        live_pack=rules.id,
        dark_pack=dark.id,
        live=live.kind.value,
        dark=FAILED if other is None else other.kind.value,
        appeared=tuple(sorted(after - before)),
        vanished=() if other is None else tuple(sorted(before - after)),
    )


def _rules(verdict: Verdict | None) -> set[str]:
    return set() if verdict is None else {finding.rule_id for finding in verdict.findings}
