"""Which rules may have something to say of a case, so that the others are not asked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from services.review.rules.case import Drug, Hit
from services.review.rules.checks import CHECKS
from services.review.rules.subject import Sets, Subject

if TYPE_CHECKING:
    from services.review.rules.pack import Rule

# What a plan keeps by drug.
_DRUGS_MAX = 50_000


class Asked(NamedTuple):
    """A rule in effect with its question and figures at hand."""

    rule: "Rule"
    ask: Callable[[Subject, Any], Iterator[Hit]]
    figures: Any


class _About(NamedTuple):
    """Of one drug: the rules that can speak of a line with it, its classes as far as pairs go by
    them, and which rules a line with it and something of a further class need."""

    rules: frozenset[int]
    paired: frozenset[str]
    partners: Mapping[str, tuple[int, ...]]


class Plan:
    """The rules of one day in the order of their ids, sorted by what they can be about."""

    def __init__(self, rules: Iterable[Asked], sets: Sets) -> None:
        self.all = tuple(sorted(rules, key=lambda asked: asked.rule.id))
        self._sets = sets
        self._always: set[int] = set()
        self._by_drug: list[int] = []
        self._by_class: dict[str, dict[str, list[int]]] = {}
        self._known: dict[Drug, _About] = {}
        for number, asked in enumerate(self.all):
            pairs, check = asked.figures.pairs_of_classes(), CHECKS[asked.rule.check]
            if pairs is not None:
                self._paired(number, pairs)
            elif check.touches is not None or check.classed:
                self._by_drug.append(number)
            else:
                self._always.add(number)

    def _paired(self, number: int, pairs: Iterable[tuple[str, str]]) -> None:
        for left, right in pairs:
            for one, other in {(left, right), (right, left)}:
                numbers = self._by_class.setdefault(one, {}).setdefault(other, [])
                numbers.append(number)

    def asked_of(self, subject: Subject) -> list[Asked]:
        """Those that may have something to say, in the order of their ids."""
        known = self._known
        about = [known.get(drug) or self._learnt(drug) for drug in subject.drugs]
        numbers = self._always.copy()
        partners = []
        for of_line in about[: len(subject.case.lines)]:
            numbers |= of_line.rules
            if of_line.partners:
                partners.append(of_line.partners)
        if partners:
            present = frozenset().union(*[each.paired for each in about])
            for wanted in partners:
                for name in wanted.keys() & present:
                    numbers.update(wanted[name])
        rules = self.all
        return [rules[number] for number in sorted(numbers)]

    def _learnt(self, drug: Drug) -> _About:
        classes = self._sets.of(drug)
        rules = [number for number in self._by_drug if _concerns(self.all[number], drug, classes)]
        partners: dict[str, list[int]] = {}
        for name in classes & self._by_class.keys():
            for other, numbers in self._by_class[name].items():
                partners.setdefault(other, []).extend(numbers)
        found = _About(
            frozenset(rules),
            classes & self._by_class.keys(),
            {name: tuple(numbers) for name, numbers in partners.items()},
        )
        if len(self._known) >= _DRUGS_MAX:
            self._known.clear()
        self._known[drug] = found
        return found


def _concerns(asked: Asked, drug: Drug, classes: frozenset[str]) -> bool:
    check = CHECKS[asked.rule.check]
    if check.classed and not classes.isdisjoint(asked.figures.sets()):
        return True
    return check.touches is not None and check.touches(drug, asked.figures)
