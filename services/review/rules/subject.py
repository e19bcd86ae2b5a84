"""One case with the classes of its drugs looked up once, for all rules."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from services.review.rules.case import Case, Drug, Line, bit_of
from services.review.rules.lazy import lazy

_ATC = re.compile(r"[A-Z]\d{2}[A-Z]{0,2}\d{0,2}\*?")
_CACHE_MAX = 50_000


class Taken(NamedTuple):
    """A drug of the case; `line` is None for what is taken besides: `current` already, or by
    another sheet of the same visit."""

    drug: Drug
    line: Line | None
    current: bool = False

    @property
    def name(self) -> str:
        """As it was written."""
        return self.line.name if self.line else self.drug.name

    @property
    def lines(self) -> tuple[int, ...]:
        """Its line's number, if it has one."""
        return (self.line.number,) if self.line else ()


class Sets:
    """Named classes of drugs. A member is an ATC code, a prefix with `*`, or a name.

    "ketoconazole J02AB02 H02CA03" is one drug with two codes; a drug that has no code is known
    by its INN, a herbal piece by its Chinese name.
    """

    def __init__(self, rows: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[str, set[str]] = {}
        self._prefixes: list[tuple[str, str]] = []
        self._found: dict[frozenset[str], frozenset[str]] = {}
        self._of_key: dict[str, tuple[str, ...]] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self.herbs: set[str] = set()
        self.all = frozenset(rows)
        for name, members in rows.items():
            for member in members:
                self._add(name, member.split())

    def _add(self, name: str, words: list[str]) -> None:
        codes = [word for word in words if _ATC.fullmatch(word)]
        called = " ".join(word for word in words if not _ATC.fullmatch(word)).lower()
        for code in codes:
            if code.endswith("*"):
                self._prefixes.append((code[:-1], name))
            else:
                self._exact.setdefault(code, set()).add(name)
        if called and codes:
            known = self.names.get(called, ())
            self.names[called] = known + tuple(code for code in codes if code not in known)
        elif called:
            spoken = "inn:" if called.isascii() else "zh:"
            self._exact.setdefault(spoken + called, set()).add(name)
            if spoken == "inn:":
                self.names.setdefault(called, ())
            else:
                self.herbs.add(called)

    def of(self, drug: Drug) -> frozenset[str]:
        """The classes a drug is in."""
        keys = drug.keys
        found = self._found.get(keys)
        if found is None:
            found = frozenset(name for key in keys for name in self._named(key))
            if len(self._found) < _CACHE_MAX:
                self._found[keys] = found
        return found

    def _named(self, key: str) -> tuple[str, ...]:
        if ":" in key:
            return tuple(self._exact.get(key, ()))
        found = self._of_key.get(key)
        if found is None:
            begins = (name for prefix, name in self._prefixes if key.startswith(prefix))
            found = self._of_key[key] = (*self._exact.get(key, ()), *begins)
        return found


@dataclass(eq=False)
class Subject:
    """One case as rules ask it; `words` are all names of drugs that anybody knows."""

    case: Case
    sets: Sets
    words: frozenset[str] = frozenset()

    @lazy
    def drugs(self) -> tuple[Drug, ...]:
        """All that the person would take: those of the lines come first."""
        case = self.case
        return (*[line.drug for line in case.lines], *case.beside, *(case.current or ()))

    @lazy
    def twice(self) -> int:
        """The bits of the marks which a line has in common with something else."""
        once = twice = own = 0
        for drug in self.drugs:
            bits = drug.bits
            twice |= once & bits
            once |= bits
        for line in self.case.lines:
            own |= line.drug.bits
        return own & twice

    @lazy
    def shared(self) -> frozenset[str]:
        """The ingredients and groups which a line has in common with something else."""
        twice = self.twice
        if not twice:
            return frozenset()
        marks = chain.from_iterable([line.drug.marks for line in self.case.lines])
        return frozenset([mark for mark in marks if twice & bit_of(mark)])

    def taken(self, number: int) -> Taken:
        """One of the drugs with its line, if it has one."""
        lines, drug = self.case.lines, self.drugs[number]
        if number < len(lines):
            return Taken(drug, lines[number])
        return Taken(drug, None, number >= len(lines) + len(self.case.beside))

    @lazy
    def sharing(self) -> tuple[Taken, ...]:
        """Those that have something of `shared`."""
        twice = self.twice
        return tuple([self.taken(n) for n, drug in enumerate(self.drugs) if drug.bits & twice])

    @lazy
    def classes(self) -> tuple[frozenset[str], ...]:
        """The classes of each that is taken."""
        of = self.sets.of
        return tuple([of(drug) for drug in self.drugs])

    @lazy
    def present(self) -> frozenset[str]:
        """All classes that occur."""
        return frozenset().union(*self.classes)

    def members(self, name: str) -> list[int]:
        """The numbers of the drugs in a class; lines first."""
        return [number for number, classes in enumerate(self.classes) if name in classes]
