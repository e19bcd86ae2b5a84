"""One case with the classes of its drugs looked up once, for all rules."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.review.rules.case import Case, Drug, Line
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
    def shared(self) -> frozenset[str]:
        """The ingredients and groups which a line has in common with something else."""
        once: set[str] = set()
        twice: set[str] = set()
        for drug in self.drugs:
            if not once.isdisjoint(drug.marks):
                twice |= once & drug.marks
            once |= drug.marks
        if not twice:
            return frozenset()
        return frozenset().union(*[line.drug.marks for line in self.case.lines]) & twice

    @lazy
    def taken(self) -> tuple[Taken, ...]:
        """Everything the person would take: the lines, then what is taken besides."""
        lines = [Taken(line.drug, line) for line in self.case.lines]
        beside = [Taken(drug, None) for drug in self.case.beside]
        return (*lines, *beside, *(Taken(drug, None, True) for drug in self.case.current or ()))

    @lazy
    def classes(self) -> tuple[frozenset[str], ...]:
        """The classes of each that is taken."""
        of = self.sets.of
        return tuple([of(drug) for drug in self.drugs])

    @lazy
    def present(self) -> frozenset[str]:
        """All classes that occur."""
        return frozenset().union(*self.classes)

    def members(self, name: str) -> list[Taken]:
        """Who is in a class; lines first."""
        pairs = zip(self.taken, self.classes, strict=True)
        return [taken for taken, classes in pairs if name in classes]

    @lazy
    def systemic(self) -> tuple[Taken, ...]:
        """What acts in the whole body, decoctions apart."""
        return tuple(taken for taken in self.taken if taken.drug.acts)

    def lines_in(self, name: str) -> Iterator[Line]:
        """The lines whose drug is in a class."""
        for taken in self.members(name):
            if taken.line is not None:
                yield taken.line
