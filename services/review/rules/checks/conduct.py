"""Across prescriptions of one person: repeated, split and excessive supply. Pure over a history."""

from datetime import datetime, timedelta

from services.review.rules.case import Case, Hit, Line, Supplied, unknown
from services.review.rules.checks.base import Check, Figures, Hits
from services.review.rules.subject import Subject
from services.review.rules.traits import HISTORY, NO_HISTORY


class Overlap(Figures):
    """Days of supply that may still be left when the next prescription comes."""

    days_left: int


def repeated_elsewhere(subject: Subject, figures: Overlap) -> Hits:
    """The same ingredient from another hospital while supply is left."""
    case = subject.case
    yield from _no_history(case)
    for line, earlier, left in _overlapping(case, figures.days_left):
        if earlier.hospital != case.hospital:
            yield Hit(
                f"{line.name}: another hospital's prescription still lasts {left} days",
                f"{line.name}：其他医疗机构处方尚余{left}日用量，重复开药",
                (line.number,),
                inputs=(("earlier", earlier.prescription), ("days_left", str(left))),
            )


def over_supplied(subject: Subject, figures: Overlap) -> Hits:
    """More of the same from the same hospital than a renewal in good time needs."""
    case = subject.case
    for line, earlier, left in _overlapping(case, figures.days_left):
        if earlier.hospital == case.hospital and not _same_visit(case, earlier):
            yield Hit(
                f"{line.name}: {left} days of an earlier prescription are left",
                f"{line.name}：既往处方尚余{left}日用量，超量开药",
                (line.number,),
                inputs=(("earlier", earlier.prescription), ("days_left", str(left))),
            )


class Split(Figures):
    """Hours within which two prescriptions are one visit."""

    hours: int


def split_prescription(subject: Subject, figures: Split) -> Hits:
    """One visit's drug spread over several prescriptions."""
    case = subject.case
    if not case.history or case.issued_at is None:
        return
    for line in case.known:
        for earlier in case.history:
            near = abs(case.issued_at - earlier.issued_at) <= timedelta(hours=figures.hours)
            same = line.drug.ingredients & earlier.ingredients
            if (
                near
                and same
                and earlier.hospital == case.hospital
                and earlier.prescription != case.id
            ):
                yield Hit(
                    f"{line.name}: prescribed twice by one hospital within {figures.hours} hours",
                    f"{line.name}：同一医疗机构{figures.hours}小时内重复开具，疑为分解处方",
                    (line.number,),
                    inputs=(("earlier", earlier.prescription),),
                )


def _same_visit(case: Case, earlier: Supplied) -> bool:
    return case.issued_at is not None and earlier.issued_at == case.issued_at


def _no_history(case: Case) -> Hits:
    if case.history is None:
        yield unknown("earlier prescriptions of this person", "该患者的既往处方记录")


def _overlapping(case: Case, allowed: int) -> list[tuple[Line, Supplied, int]]:
    found: list[tuple[Line, Supplied, int]] = []
    start = case.issued_at
    if not case.history or start is None:
        return found
    for line in case.known:
        for earlier in case.history:
            same = line.drug.ingredients & earlier.ingredients
            if not same or earlier.prescription == case.id:
                continue
            left = days_left(earlier, start)
            if left > allowed:
                found.append((line, earlier, left))
    return found


def days_left(earlier: Supplied, at: datetime) -> int:
    """Whole days of an earlier supply that are left at a moment; never negative."""
    ends = earlier.issued_at + timedelta(days=earlier.days)
    return max(0, -((at - ends) // timedelta(days=1)))


CHECKS = {
    "repeated_elsewhere": Check(Overlap, repeated_elsewhere, needs=HISTORY | NO_HISTORY),
    "over_supplied": Check(Overlap, over_supplied, needs=HISTORY),
    "split_prescription": Check(Split, split_prescription, needs=HISTORY),
}
