"""Which rules may have something to say of a case, so that the others are not asked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from services.review.rules.case import Drug, Hit
from services.review.rules.checks import CHECKS, Check
from services.review.rules.subject import Sets, Subject
from services.review.rules.traits import traits_of

if TYPE_CHECKING:
    from services.review.rules.pack import Rule

# What a plan keeps by drug, and how many sets of traits and choices of rules.
_DRUGS_MAX, _CHOICES_MAX = 50_000, 20_000


class Asked(NamedTuple):
    """A rule in effect with its question and figures at hand."""

    rule: "Rule"
    ask: Callable[[Subject, Any], Iterator[Hit]]
    figures: Any


class _About(NamedTuple):
    """Of one drug, as bits: the rules that can speak of a line with it, its classes as far as pairs
    go by them, and the classes of which something else makes such a pair, each with its rules."""

    rules: int
    paired: int
    wanted: int
    partners: Mapping[int, int]


class Plan:
    """The rules of one day in the order of their ids, sorted by what they can be about."""

    def __init__(self, rules: Iterable[Asked], sets: Sets) -> None:
        self.all = tuple(sorted(rules, key=lambda asked: asked.rule.id))
        self._sets = sets
        self._always = 0
        self._by_drug: list[int] = []
        self._partners: dict[str, dict[str, int]] = {}
        self._known: dict[Drug, _About] = {}
        self._asked: dict[int, tuple[Asked, ...]] = {}
        self._by_trait: dict[int, int] = {}
        self._of_traits: dict[int, int] = {}
        self._by_days: list[tuple[int, int]] = []
        for number, asked in enumerate(self.all):
            self._place(number, asked.figures, CHECKS[asked.rule.check])
        self._bits = {name: 1 << number for number, name in enumerate(sorted(self._partners))}

    def _place(self, number: int, figures: Any, check: Check) -> None:
        bit, pairs = 1 << number, figures.pairs_of_classes()
        traits = check.traits(figures)
        if pairs is not None:
            self._pair(bit, pairs)
        elif check.touches is not None or check.classed:
            self._by_drug.append(number)
        elif traits:
            self._by_trait[traits] = self._by_trait.get(traits, 0) | bit
        elif check.within is not None:
            self._by_days.append((check.within(figures), bit))
        else:
            self._always |= bit

    def _pair(self, rule: int, pairs: Iterable[tuple[str, str]]) -> None:
        for left, right in pairs:
            for one, other in ((left, right), (right, left)):
                partners = self._partners.setdefault(one, {})
                partners[other] = partners.get(other, 0) | rule

    def asked_of(self, subject: Subject) -> tuple[Asked, ...]:
        """Those that may have something to say, in the order of their ids."""
        case, known = subject.case, self._known
        about = [known.get(drug) or self._learnt(drug) for drug in subject.drugs]
        present = 0
        for each in about:
            present |= each.paired
        traits, lasts = traits_of(subject), case.lasts
        asked = self._of_traits.get(traits) or self._traited(traits)
        for days, rule in self._by_days:
            if lasts > days:
                asked |= rule
        for of_line in about[: len(case.lines)]:
            asked |= of_line.rules
            if of_line.wanted & present:
                for partner, rules in of_line.partners.items():
                    if partner & present:
                        asked |= rules
        return self._asked.get(asked) or self._listed(asked)

    def _traited(self, traits: int) -> int:
        """The rules that every case is asked, and those of its traits."""
        found = self._always
        for needed, rules in self._by_trait.items():
            if needed & traits:
                found |= rules
        if len(self._of_traits) >= _CHOICES_MAX:
            self._of_traits.clear()
        self._of_traits[traits] = found
        return found

    def _listed(self, asked: int) -> tuple[Asked, ...]:
        found = tuple(rule for number, rule in enumerate(self.all) if asked >> number & 1)
        if len(self._asked) >= _CHOICES_MAX:
            self._asked.clear()
        self._asked[asked] = found
        return found

    def _learnt(self, drug: Drug) -> _About:
        classes = self._sets.of(drug)
        partners: dict[int, int] = {}
        for name in classes & self._partners.keys():
            for other, rules in self._partners[name].items():
                bit = self._bits[other]
                partners[bit] = partners.get(bit, 0) | rules
        found = _About(
            _together(1 << n for n in self._by_drug if _concerns(self.all[n], drug, classes)),
            _together(self._bits[name] for name in classes & self._bits.keys()),
            _together(partners),
            partners,
        )
        if len(self._known) >= _DRUGS_MAX:
            self._known.clear()
        self._known[drug] = found
        return found


def _together(bits: Iterable[int]) -> int:
    found = 0
    for bit in bits:
        found |= bit
    return found


def _concerns(asked: Asked, drug: Drug, classes: frozenset[str]) -> bool:
    check = CHECKS[asked.rule.check]
    if check.classed and not classes.isdisjoint(asked.figures.sets()):
        return True
    return check.touches is not None and check.touches(drug, asked.figures)
