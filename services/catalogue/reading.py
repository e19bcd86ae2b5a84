"""Read a catalogue from its folder of files. Nothing of a wrong file is taken, unless asked for."""

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources.abc import Traversable
from typing import Any

from services.catalogue import cells, codes
from services.catalogue.book import Catalogue
from services.catalogue.model import (
    Action,
    Caution,
    ChargeClass,
    Concern,
    Control,
    Ddd,
    Diagnosis,
    DoseLimit,
    Dosing,
    Fact,
    Form,
    Grade,
    Guidance,
    Indication,
    Kind,
    Origin,
    Product,
    SaleClass,
    Source,
    Special,
    Standing,
    Storage,
    Substance,
)
from services.catalogue.spelling import Place, Spelling, Spellings
from services.catalogue.table import Flaw, Row, Table

__all__ = ["Reading", "WrongCatalogue", "read", "read_folder"]

PRODUCTS, SUBSTANCES, SOURCES = "products.csv", "substances.csv", "sources.csv"
DIAGNOSES, SPELLINGS = "diagnoses.csv", "spellings.csv"
GROUP = "ATC:"
FLAWS_SHOWN = 20
HASH_DIGITS = 12


class WrongCatalogue(ValueError):
    """Files with flaws; nothing of them was taken."""

    def __init__(self, flaws: tuple[Flaw, ...]) -> None:
        shown = "\n".join(str(flaw) for flaw in flaws[:FLAWS_SHOWN])
        more = f"\n… and {len(flaws) - FLAWS_SHOWN} more" if len(flaws) > FLAWS_SHOWN else ""
        super().__init__(f"the catalogue has {len(flaws)} flaws\n{shown}{more}")
        self.flaws = flaws


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and the flaws of what was left out."""

    catalogue: Catalogue
    flaws: tuple[Flaw, ...]


def read_folder(folder: Traversable, partial: bool = False) -> Reading:
    """The catalogue of a folder. Raises WrongCatalogue when a file has flaws and not `partial`."""
    return read(contents(folder), partial)


def contents(folder: Traversable) -> dict[str, bytes]:
    """The files of a catalogue that a folder holds, by name."""
    files = {}
    for name in ("catalogue.toml", SOURCES, SUBSTANCES, PRODUCTS, DIAGNOSES, SPELLINGS, *_FACTS):
        path = folder.joinpath(name)
        if path.is_file():
            files[name] = path.read_bytes()
    return files


def version_of(files: Mapping[str, bytes]) -> str:
    """The version that a catalogue of these files has."""
    return _Reader(files)._version()


def read(files: Mapping[str, bytes], partial: bool = False) -> Reading:
    """The catalogue of these files by name. Facts may be missing, the other files may not."""
    reader = _Reader(files)
    catalogue = reader.catalogue()
    flaws = tuple(reader.flaws)
    if flaws and not partial:
        raise WrongCatalogue(flaws)
    return Reading(catalogue, flaws)


_origin, _standing = cells.choice(Origin), cells.choice(Standing)
_optional = cells.maybe(cells.number)
_SOURCES = Table({"id": cells.text, "title": cells.text})
_SPELLINGS = Table(
    {
        "word": cells.text,
        "place": cells.choice(Place),
        "way": cells.maybe(cells.text, ""),
        "source": cells.text,
        "standing": _standing,
    }
)
_SUBSTANCES = Table(
    {
        "key": cells.text,
        "zh": cells.maybe(cells.text, ""),
        "initials": cells.maybe(cells.text, ""),
        "kind": cells.choice(Kind),
        "atc": cells.atc_codes,
        "aliases": cells.words("|"),
        "control": cells.choice(Control),
        "antimicrobial": cells.yes,
        "grade": cells.maybe(cells.choice(Grade)),
        "skin_test": cells.yes,
        "doping": cells.yes,
        "origin": _origin,
        "source": cells.text,
        "standing": _standing,
        "names_standing": cells.maybe(_standing, Standing.TO_BE_VERIFIED),
        "class_standing": cells.maybe(_standing, Standing.TO_BE_VERIFIED),
    },
    optional=frozenset({"names_standing", "class_standing"}),
)
_PRODUCTS = Table(
    {
        "product_code": cells.checked(codes.nhsa_code_flaw),
        "approval_number": cells.maybe(cells.checked(codes.approval_number_flaw), ""),
        "standard_code": cells.maybe(cells.checked(codes.national_code_flaw), ""),
        "generic_name": cells.text,
        "initials": cells.maybe(cells.text, ""),
        "name_en": cells.maybe(cells.text, ""),
        "inn": cells.text,
        "atc": cells.maybe(cells.checked(codes.atc_flaw), ""),
        "kind": cells.choice(Kind),
        "form": cells.choice(Form),
        "strength": cells.text,
        "contents": cells.contents,
        "units_per_pack": cells.amount,
        "unit": cells.text,
        "route": cells.text,
        "storage": cells.choice(Storage),
        "sale": cells.choice(SaleClass),
        "charge_class": cells.choice(ChargeClass),
        "default_price_fen": cells.fen,
        "trace_prefix": cells.trace_prefix,
        "maker": cells.text,
        "control": cells.choice(Control),
        "special": cells.choice(Special),
        "antimicrobial": cells.yes,
        "doping": cells.yes,
        "everyday": cells.yes,
        "origin": _origin,
    }
)
_FACT: dict[str, Callable[[str], Any]] = {
    "subject": cells.text,
    "source": cells.text,
    "standing": _standing,
}
_DIAGNOSES = Table(
    {
        "icd": cells.text,
        "zh": cells.text,
        "en": cells.text,
        "source": cells.text,
        "standing": _standing,
    }
)
_BAND = {"from_months": cells.whole, "below_months": cells.maybe(cells.whole)}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A file of facts: its columns, and what a row becomes."""

    table: Table
    field: str
    make: Callable[[dict[str, Any]], list[Fact]]


def _one(kind: Callable[..., Fact]) -> Callable[[dict[str, Any]], list[Fact]]:
    return lambda values: [kind(**values)]


def _indications(values: dict[str, Any]) -> list[Fact]:
    listed = values.pop("icd")
    return [Indication(icd=icd, **values) for icd in listed]


_FACTS: dict[str, _Kind] = {
    "ddds.csv": _Kind(
        Table(
            _FACT
            | {
                "atc": cells.checked(codes.atc_flaw),
                "amount": cells.amount,
                "unit": cells.text,
                "route": cells.text,
            }
        ),
        "ddds",
        _one(Ddd),
    ),
    "dose_limits.csv": _Kind(
        Table(
            _FACT
            | _BAND
            | {
                "route": cells.maybe(cells.text, ""),
                "max_daily": _optional,
                "max_single": _optional,
                "max_daily_per_kg": _optional,
                "unit": cells.text,
            }
        ),
        "dose_limits",
        _one(DoseLimit),
    ),
    "cautions.csv": _Kind(
        Table(
            _FACT
            | {
                "concern": cells.choice(Concern),
                "action": cells.choice(Action),
                "at_least": _optional,
                "below": _optional,
                "icd": cells.words(" "),
                "max_daily": _optional,
                "unit": cells.maybe(cells.text, ""),
                "text_zh": cells.text,
                "text_en": cells.text,
            }
        ),
        "cautions",
        _one(Caution),
    ),
    "indications.csv": _Kind(Table(_FACT | {"icd": cells.words(" ")}), "indications", _indications),
    "dosings.csv": _Kind(
        Table(
            _FACT
            | _BAND
            | {
                "route": cells.text,
                "icd": cells.words(" "),
                "dose_from": cells.amount,
                "dose_to": cells.amount,
                "unit": cells.text,
                "per_kg": cells.yes,
                "frequencies": cells.words(" "),
            }
        ),
        "dosings",
        _one(Dosing),
    ),
    "guidance.csv": _Kind(
        Table(
            _FACT
            | {
                "aspect": cells.choice_of("take", "avoid"),
                "text_zh": cells.text,
                "text_en": cells.text,
            }
        ),
        "guidance",
        _one(Guidance),
    ),
}


@dataclass
class _Reader:
    """Reads the files in the order in which they lean on each other."""

    files: Mapping[str, bytes]
    flaws: list[Flaw] = field(default_factory=list)

    def catalogue(self) -> Catalogue:
        sources = {row.values["id"]: Source(**row.values) for row in self._rows(SOURCES, _SOURCES)}
        bare = dict(self._substances(sources))
        facts: dict[str, dict[str, list[Fact]]] = defaultdict(lambda: defaultdict(list))
        groups = _groups(bare.values())
        for name, kind in _FACTS.items():
            if name in self.files:
                for row in self._rows(name, kind.table):
                    self._take_fact(name, row, kind, sources, groups, facts)
        substances = [_with_facts(item, facts[key]) for key, item in bare.items()]
        products = list(self._products(bare))
        diagnoses = list(self._diagnoses(sources))
        words = Spellings(self._spellings(sources))
        return Catalogue.of(self._version(), products, substances, diagnoses, words)

    def _rows(self, name: str, table: Table) -> Iterator[Row]:
        if name not in self.files:
            self.flaws.append(Flaw(name, 0, "", "this file is missing"))
            return
        for found in table.rows(name, self.files[name]):
            if isinstance(found, Flaw):
                self.flaws.append(found)
            else:
                yield found

    def _wrong(self, file: str, line: int, column: str, detail: str) -> None:
        self.flaws.append(Flaw(file, line, column, detail))

    def _substances(self, sources: Mapping[str, Source]) -> Iterator[tuple[str, Substance]]:
        seen: set[str] = set()
        for row in self._rows(SUBSTANCES, _SUBSTANCES):
            values = dict(row.values)
            key = values["key"]
            source = sources.get(values.pop("source"))
            if key in seen or key != key.lower():
                self._wrong(SUBSTANCES, row.line, "key", f"{key!r} stands twice or has capitals")
            elif source is None:
                self._wrong(SUBSTANCES, row.line, "source", "no such source")
            else:
                seen.add(key)
                yield key, Substance(inn=key, source=source, **values)

    def _take_fact(
        self,
        name: str,
        row: Row,
        kind: _Kind,
        sources: Mapping[str, Source],
        groups: Callable[[str], tuple[str, ...]],
        facts: dict[str, dict[str, list[Fact]]],
    ) -> None:
        values = dict(row.values)
        subject, source = values.pop("subject"), sources.get(values.pop("source"))
        if source is None:
            self._wrong(name, row.line, "source", "no such source")
            return
        keys = groups(subject)
        if not keys:
            self._wrong(name, row.line, "subject", f"{subject!r} is no substance and no group")
            return
        scope = subject.removeprefix(GROUP) if subject.startswith(GROUP) else ""
        made = kind.make({"source": source, "scope": scope, **values})
        for key in keys:
            facts[key][kind.field] += made

    def _diagnoses(self, sources: Mapping[str, Source]) -> Iterator[Diagnosis]:
        seen: set[str] = set()
        for row in self._rows(DIAGNOSES, _DIAGNOSES) if DIAGNOSES in self.files else ():
            values = dict(row.values)
            source = sources.get(values.pop("source"))
            if source is None:
                self._wrong(DIAGNOSES, row.line, "source", "no such source")
            elif values["icd"] in seen:
                self._wrong(DIAGNOSES, row.line, "icd", f"{values['icd']} stands twice")
            else:
                seen.add(values["icd"])
                yield Diagnosis(source=source, scope="", **values)

    def _spellings(self, sources: Mapping[str, Source]) -> Iterator[Spelling]:
        seen: set[tuple[str, Place]] = set()
        for row in self._rows(SPELLINGS, _SPELLINGS) if SPELLINGS in self.files else ():
            values = dict(row.values)
            source, place = sources.get(values.pop("source")), (values["word"], values["place"])
            if source is None:
                self._wrong(SPELLINGS, row.line, "source", "no such source")
            elif place in seen:
                self._wrong(SPELLINGS, row.line, "word", f"{values['word']!r} stands twice")
            else:
                seen.add(place)
                yield Spelling(source=source, **values)

    def _products(self, substances: Mapping[str, Substance]) -> Iterator[Product]:
        seen: dict[str, set[str]] = {name: set() for name in _UNIQUE}
        for row in self._rows(PRODUCTS, _PRODUCTS):
            values = row.values
            unknown = [c.substance for c in values["contents"] if c.substance not in substances]
            again = [n for n in _UNIQUE if values[n] and values[n] in seen[n]]
            if unknown:
                self._wrong(PRODUCTS, row.line, "contents", f"{unknown[0]!r} is no substance")
            elif not values["contents"]:
                self._wrong(PRODUCTS, row.line, "contents", "no ingredient")
            elif again:
                self._wrong(PRODUCTS, row.line, again[0], f"{values[again[0]]} stands twice")
            else:
                for name in _UNIQUE:
                    seen[name].add(values[name])
                yield Product(ingredients=cells.ingredients(values["contents"]), **values)

    def _version(self) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(hashlib.sha256(name.encode() + b"\0" + self.files[name]).digest())
        label = ""
        try:
            found = tomllib.loads(self.files.get("catalogue.toml", b"").decode("utf-8"))
            label = found.get("version", "")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self._wrong("catalogue.toml", 1, "", f"not TOML: {error}")
        if not isinstance(label, str) or not label:
            self._wrong("catalogue.toml", 1, "version", "is missing")
        return f"{label}+{digest.hexdigest()[:HASH_DIGITS]}"


def _with_facts(item: Substance, facts: Mapping[str, list[Fact]]) -> Substance:
    fields: dict[str, Any] = {place: tuple(found) for place, found in facts.items()}
    return replace(item, **fields)


_UNIQUE = ("product_code", "standard_code", "trace_prefix")


def _groups(substances: Iterable[Substance]) -> Callable[[str], tuple[str, ...]]:
    """Which substances a fact's subject means: one, or a whole group of the ATC."""
    listed = list(substances)
    known = {item.key for item in listed}
    found: dict[str, tuple[str, ...]] = {}

    def keys(subject: str) -> tuple[str, ...]:
        if not subject.startswith(GROUP):
            return (subject,) if subject in known else ()
        prefix = subject.removeprefix(GROUP)
        if prefix not in found:
            members = [s.key for s in listed if any(c.startswith(prefix) for c in s.atc)]
            found[prefix] = tuple(members) if prefix else ()
        return found[prefix]

    return keys
