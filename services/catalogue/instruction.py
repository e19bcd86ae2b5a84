"""The instruction of a product, put together from facts that each name their source."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from services.catalogue.book import Catalogue
from services.catalogue.model import Caution, Fact, Product, Storage

__all__ = ["STORAGE", "Section", "Statement", "amount", "body", "instruction"]

STORAGE: dict[Storage, tuple[str, str]] = {
    Storage.ROOM: ("常温（10–30 ℃）保存", "Store at room temperature (10-30 °C)"),
    Storage.COOL: ("阴凉处（不超过 20 ℃）保存", "Store in a cool place (at most 20 °C)"),
    Storage.COLD: (
        "冷藏（2–8 ℃）保存，不得冷冻",
        "Store in a refrigerator (2-8 °C), do not freeze",
    ),
    Storage.FROZEN: ("冷冻保存", "Store frozen"),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence in two languages, with the fact's source where it has one."""

    zh: str
    en: str
    fact: Fact | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the instruction: `indications`, `dosage`, `cautions`, `advice` or `storage`."""

    name: str
    statements: tuple[Statement, ...]


def instruction(catalogue: Catalogue, item: Product) -> tuple[Section, ...]:
    """All that the catalogue knows to say; a section without statements says nothing is known."""
    return (
        Section("composition", tuple(_composition(catalogue, item))),
        Section("indications", tuple(_indications(catalogue, item))),
        Section("dosage", tuple(_dosage(catalogue, item))),
        Section("cautions", tuple(_cautions(catalogue, item))),
        Section("advice", tuple(_advice(catalogue, item))),
        Section("storage", (Statement(*STORAGE[item.storage]),)),
    )


def body(catalogue: Catalogue, item: Product) -> str:
    """The words of the instruction in both languages, for search."""
    sections = instruction(catalogue, item)
    return " ".join(f"{s.zh} {s.en}" for part in sections for s in part.statements)


def amount(value: Decimal, unit: str) -> str:
    """A number with its unit, without needless zeros."""
    return f"{value.normalize():f} {unit}"


def _composition(catalogue: Catalogue, item: Product) -> Iterable[Statement]:
    for content in item.contents:
        substance = catalogue.substances[content.substance]
        held = "" if content.amount is None else f" {amount(content.amount, content.unit)}"
        yield Statement(f"{substance.zh or substance.inn}{held}", f"{substance.inn}{held}")


def _indications(catalogue: Catalogue, item: Product) -> Iterable[Statement]:
    for code in sorted(catalogue.indications(item)):
        named = catalogue.diagnosis(code)
        if named is not None:
            yield Statement(f"{named.zh}（{code}）", f"{named.en} ({code})", named)


def _dosage(catalogue: Catalogue, item: Product) -> Iterable[Statement]:
    for _, fact in catalogue.dosings(item):
        span = amount(fact.dose_from, fact.unit)
        if fact.dose_to != fact.dose_from:
            span = f"{fact.dose_from.normalize():f}–{amount(fact.dose_to, fact.unit)}"
        per = "/kg" if fact.per_kg else ""
        often = " ".join(fact.frequencies)
        yield Statement(
            f"每次 {span}{per}（频次 {often}）", f"{span}{per} each time ({often})", fact
        )
    for substance, limit in catalogue.dose_limits(item):
        if limit.max_daily is not None:
            most = amount(limit.max_daily, limit.unit)
            zh, en = substance.zh or substance.inn, substance.inn
            yield Statement(f"{zh}每日不超过 {most}", f"{en}: at most {most} a day", limit)


def _cautions(catalogue: Catalogue, item: Product) -> Iterable[Statement]:
    seen: set[Caution] = set()
    for _, fact in catalogue.cautions(item):
        if fact not in seen:
            seen.add(fact)
            yield Statement(fact.text_zh, fact.text_en, fact)


def _advice(catalogue: Catalogue, item: Product) -> Iterable[Statement]:
    for _, fact in catalogue.guidance(item):
        yield Statement(fact.text_zh, fact.text_en, fact)
