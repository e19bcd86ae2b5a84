"""How much: the label's maximum, the plausibility band, the form against the route."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from services.review.rules.case import (
    COUNT,
    Amount,
    Drug,
    Hit,
    Limit,
    Line,
    Person,
    Severity,
    Way,
    times,
    unknown,
)
from services.review.rules.checks.base import Check, Figures, Hits
from services.review.rules.subject import Subject

_ONCE = Fraction(1)
_NOBODY = Person()
# Ways to take drugs that are kept reckoned.
_RECKONED_MAX = 50_000
# Whether too high, a day's amount and the usual one, in words.
_Outside = tuple[bool, str, str]
# Full months: from, and below.
_Ages = tuple[int, int | None]


class Routes(Figures):
    """How route codes are called in dose tables, and the age (months) taken for an adult's."""

    routes: dict[str, str]
    adult_months: int


class DoseRow(Figures):
    """One maximum of the pack's own; `elderly_from` in years."""

    inn: str
    daily: Fraction
    unit: str = "mg"
    from_months: int = 216
    below_months: int | None = None
    route: str = ""
    source: str
    standing: str = "verified"

    @property
    def limit(self) -> Limit:
        """As the catalogue has its own."""
        return Limit(
            self.route, self.from_months, self.below_months, self.daily, None, None,
            self.unit, self.source, self.standing == "verified",
        )  # fmt: skip


class DailyMaxima(Routes):
    """The pack's maxima; they come before the catalogue's."""

    rows: tuple[DoseRow, ...]

    @cached_property
    def by_inn(self) -> dict[str, tuple[Limit, ...]]:
        """The rows of each substance, so that nothing is scanned."""
        found: dict[str, tuple[Limit, ...]] = {}
        for row in self.rows:
            found[row.inn] = (*found.get(row.inn, ()), row.limit)
        return found

    @cached_property
    def beyond(self) -> dict[tuple[Way, str | None], tuple[_Ages, ...]]:
        """The ages whose maxima each way to take a drug does not keep by itself."""
        return {}


class _Dose(NamedTuple):
    line: Line
    single: Amount
    day: Amount


def _limited(drug: Drug, figures: DailyMaxima) -> bool:
    if drug.herbal or drug.topical:
        return False
    return any(part.inn in figures.by_inn or part.inn in drug.limits for part in drug.parts)


def daily_maximum(subject: Subject, figures: DailyMaxima) -> Hits:
    """All lines of one ingredient and route together, so that no dose hides in a compound."""
    known, person = subject.case.known, subject.case.patient
    months = person.age_months
    if months is None:
        months = figures.adult_months
    if not _beyond(known, months, figures):
        return
    for (inn, route), doses in _by_ingredient(known, figures.routes).items():
        limits = _limits(inn, route, figures, doses[0].line.drug)
        mine = (each for each in limits if _within(months, each.from_months, each.below_months))
        limit = next(mine, None)
        if limit is not None:
            yield from _over(inn, limit, doses, person)


def _beyond(lines: Iterable[Line], months: int, figures: DailyMaxima) -> bool:
    """Whether a line may be too much at this age, by itself or together with another."""
    once = 0
    for line in lines:
        bits = line.drug.bits
        if once & bits:
            return True
        once |= bits
        key = line.way, line.route
        ages = figures.beyond.get(key)
        if ages is None:
            ages = tuple(_ages_beyond(line, figures))
            if len(figures.beyond) >= _RECKONED_MAX:
                figures.beyond.clear()
            figures.beyond[key] = ages
        for first, below in ages:
            if _within(months, first, below):
                return True
    return False


def _ages_beyond(line: Line, figures: DailyMaxima) -> Iterator[_Ages]:
    for (inn, route), doses in _by_ingredient((line,), figures.routes).items():
        for limit in _limits(inn, route, figures, line.drug):
            if limit.daily_per_kg is not None or any(_over(inn, limit, doses, _NOBODY)):
                yield limit.from_months, limit.below_months


def _by_ingredient(
    lines: Iterable[Line], routes: Mapping[str, str]
) -> dict[tuple[str, str], list[_Dose]]:
    found: dict[tuple[str, str], list[_Dose]] = {}
    for line in lines:
        if line.drug.herbal or line.drug.topical:
            continue
        # Where neither route nor form is known, what is swallowed is meant.
        unsaid = line.route is None and line.drug.oral is None and not line.drug.injection
        route = routes.get(line.route or "", "oral" if line.drug.oral or unsaid else "")
        for part, single, day in line.amounts:
            if day is not None and single is not None:
                found.setdefault((part.inn, route), []).append(_Dose(line, single, day))
    return found


def _limits(inn: str, route: str, figures: DailyMaxima, drug: Drug) -> Iterator[Limit]:
    """Those of all ages by one route; the pack's before the catalogue's."""
    for limit in (*figures.by_inn.get(inn, ()), *drug.limits.get(inn, ())):
        if limit.route in ("", route):
            yield limit


def _within(months: int, first: int, below: int | None) -> bool:
    return first <= months and (below is None or months < below)


def _over(inn: str, limit: Limit, doses: list[_Dose], person: Person) -> Hits:
    mine = [dose for dose in doses if dose.day.unit == limit.unit]
    if not mine:
        return
    total = mine[0].day.value
    for dose in mine[1:]:
        total += dose.day.value
    bound = limit.daily
    lines = (
        tuple(sorted({dose.line.number for dose in mine}))
        if len(mine) > 1
        else (mine[0].line.number,)
    )
    if limit.daily_per_kg is not None:
        if person.weight_kg is None:
            if bound is None:
                yield unknown(
                    f"{inn}: the maximum goes by weight, which is not given",
                    f"{inn}：极量按体重计算，未提供体重",
                    *lines,
                )
                return
        else:
            by_weight = limit.daily_per_kg * person.weight_kg
            bound = by_weight if bound is None else min(bound, by_weight)
    if bound is not None and exceeds(total, _ONCE, bound):
        yield _hit(inn, total, bound, limit, lines, "a day", "日剂量")
    if limit.single is not None:
        single = max([dose.single.value for dose in mine])
        if exceeds(single, _ONCE, limit.single):
            yield _hit(inn, single, limit.single, limit, lines, "at once", "单次剂量")


def _hit(
    inn: str,
    total: Fraction,
    bound: Fraction,
    limit: Limit,
    lines: tuple[int, ...],
    when_en: str,
    when_zh: str,
) -> Hit:
    unit = limit.unit
    return Hit(
        f"{inn}: {number(total)} {unit} {when_en}, at most {number(bound)} {unit}",
        f"{inn}：{when_zh}{number(total)} {unit}，超过极量{number(bound)} {unit}",
        lines,
        # A maximum nobody has followed to its source may not send a prescription back by itself.
        severity=None if limit.verified else Severity.PHARMACIST,
        standing="" if limit.verified else "to be verified",
        source=limit.source,
        inputs=(("total", f"{number(total)} {unit}"), ("maximum", f"{number(bound)} {unit}")),
    )


def exceeds(value: Fraction, factor: Fraction, bound: Fraction) -> bool:
    """Whether a value lies above so many times a bound; in whole numbers, without cancelling."""
    mine = value.numerator * factor.denominator * bound.denominator
    return mine > factor.numerator * bound.numerator * value.denominator


def falls_below(value: Fraction, factor: Fraction, bound: Fraction) -> bool:
    """Whether a value lies below so many times a bound."""
    mine = value.numerator * factor.denominator * bound.denominator
    return mine < factor.numerator * bound.numerator * value.denominator


def number(value: Fraction) -> str:
    """A fraction as people write it, to three decimals."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.3f}".rstrip("0").rstrip(".")


class Band(Routes):
    """How many defined daily doses up, and what part of one down, are still believable."""

    times_above: Fraction
    part_below: Fraction
    except_inn: frozenset[str] = frozenset()

    @cached_property
    def reckoned(self) -> dict[tuple[Way, str | None], tuple[_Outside, ...]]:
        """What was found for each way to take a drug."""
        return {}


def _measured(drug: Drug, figures: Band) -> bool:
    return bool(drug.yardsticks) and not drug.topical


def within_band(subject: Subject, figures: Band) -> Hits:
    """A defined daily dose is no maximum: this only finds slips of the pen, in adults."""
    months = subject.case.patient.age_months
    if months is not None and months < figures.adult_months:
        return
    for line in subject.case.known:
        drug = line.drug
        if not drug.yardsticks or drug.topical or line.once or not line.rate:
            continue
        for high, amount, usual in _outside(line, figures):
            said = "far above" if high else "far below"
            zh = "明显高于" if high else "明显低于"
            yield Hit(
                f"{line.name}: {amount} a day is {said} the defined daily dose {usual}",
                f"{line.name}：日剂量{amount}{zh}限定日剂量{usual}",
                (line.number,),
                inputs=(("day", amount), ("ddd", usual)),
            )


def _outside(line: Line, figures: Band) -> tuple[_Outside, ...]:
    """Reckoned once for all lines of a drug that are written alike."""
    key = line.way, line.route
    known = figures.reckoned.get(key)
    if known is not None:
        return known
    route = figures.routes.get(line.route or "", "oral" if line.drug.oral else "")
    found: list[_Outside] = []
    for part, single, _ in line.amounts:
        if single is not None and part.inn not in figures.except_inn:
            found += _beside(line, part.inn, single, route, figures)
    if len(figures.reckoned) >= _RECKONED_MAX:
        figures.reckoned.clear()
    figures.reckoned[key] = tuple(found)
    return tuple(found)


def _beside(line: Line, inn: str, single: Amount, route: str, figures: Band) -> Iterator[_Outside]:
    rate = line.rate or Fraction(1)
    for yardstick in line.drug.yardsticks.get(inn, ()):
        if yardstick.unit != single.unit or yardstick.route not in ("", route):
            continue
        day = times(single.value, rate)
        high = exceeds(day, figures.times_above, yardstick.amount)
        # A day's amount may be small in a compound, so only single drugs can be too low.
        low = not line.drug.compound and falls_below(day, figures.part_below, yardstick.amount)
        if high or low:
            usual = f"{number(yardstick.amount)} {single.unit}"
            yield high, f"{number(day)} {single.unit}", usual
        return


class FormRoutes(Figures):
    """Which routes each form may be given by."""

    allowed: dict[str, frozenset[str]]


def route_fits_form(subject: Subject, figures: FormRoutes) -> Hits:
    """A form is given the way it is made for."""
    for line in subject.case.known:
        form = line.form or line.drug.form
        if line.route is None:
            if not line.drug.herbal:
                yield unknown(f"{line.name}: the route", f"{line.name}：给药途径", line.number)
            continue
        allowed = figures.allowed.get(form or "")
        if allowed is not None and line.route not in allowed:
            yield Hit(
                f"{line.name}: {form} by route {line.route}",
                f"{line.name}：剂型（{form}）与给药途径（{line.route}）不符",
                (line.number,),
                inputs=(("form", form or ""), ("route", line.route)),
            )


class PieceRow(Figures):
    """The most of one herbal piece a day, in grams; all its names."""

    names: tuple[str, ...]
    grams: Fraction


class Pieces(Figures):
    """Largest daily weights of toxic pieces."""

    rows: tuple[PieceRow, ...]


def _is_piece(drug: Drug, figures: Figures) -> bool:
    return drug.herbal


def piece_maximum(subject: Subject, figures: Pieces) -> Hits:
    """The weight of a toxic piece in one day's decoction."""
    for line, grams in _pieces(subject):
        for row in figures.rows:
            if line.drug.zh not in row.names:
                continue
            if grams is None:
                yield unknown(f"{line.name}: grams a day", f"{line.name}：每日克数", line.number)
            elif grams > row.grams:
                yield Hit(
                    f"{line.name}: {number(grams)} g a day, at most {number(row.grams)} g",
                    f"{line.name}：每日{number(grams)}克，超过{number(row.grams)}克",
                    (line.number,),
                    inputs=(("grams", number(grams)), ("maximum", number(row.grams))),
                )


def _pieces(subject: Subject) -> Iterator[tuple[Line, Fraction | None]]:
    for line in subject.case.lines:
        if not line.drug.herbal:
            continue
        dose = line.dose
        rate = line.rate if line.rate is not None else Fraction(1)
        if dose is None or dose.unit not in (COUNT, "mg"):
            yield line, None
        else:
            # Pieces are counted in grams; written weights arrive in milligrams.
            grams = dose.value if dose.unit == COUNT else dose.value / 1000
            yield line, grams * rate


class NoteRow(Figures):
    """Pieces that are decocted in their own way, and the words for it."""

    names: frozenset[str]
    words: tuple[str, ...]


class Notes(Figures):
    """Rows of ways to decoct."""

    rows: tuple[NoteRow, ...]

    @cached_property
    def by_name(self) -> dict[str, tuple[str, ...]]:
        """The words of each piece."""
        return {name: row.words for row in self.rows for name in row.names}


def piece_notes(subject: Subject, figures: Notes) -> Hits:
    """Whoever writes such a piece writes how it is decocted."""
    for line in subject.case.lines:
        words = figures.by_name.get(line.drug.zh) if line.drug.herbal else None
        if words is not None and not any(word in line.usage for word in words):
            yield Hit(
                f"{line.name}: the note {words[0]} is missing",
                f"{line.name}：未注明{words[0]}等特殊煎服要求",
                (line.number,),
                inputs=(("note", words[0]),),
            )


CHECKS = {
    "daily_maximum": Check(DailyMaxima, daily_maximum, _limited),
    "within_band": Check(Band, within_band, _measured),
    "route_fits_form": Check(FormRoutes, route_fits_form),
    "piece_notes": Check(Notes, piece_notes, _is_piece),
    "piece_maximum": Check(Pieces, piece_maximum, _is_piece),
}
