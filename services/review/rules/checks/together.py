"""What does not go together: interactions, duplicates, herbal incompatibilities."""

from itertools import combinations, product

from pydantic import Field

from services.review.rules.case import Drug, Hit, Severity
from services.review.rules.checks.base import Check, Figures, Hits
from services.review.rules.subject import Subject, Taken
from services.review.rules.traits import SHARED


class ClassPair(Figures):
    """Two classes that are not used at the same time; one class alone means with itself."""

    left: str
    right: str
    pair: str
    effect_en: str
    effect_zh: str

    def sets(self) -> frozenset[str]:
        """Both classes."""
        return frozenset({self.left, self.right})

    def pairs_of_classes(self) -> tuple[tuple[str, str], ...]:
        """The one."""
        return ((self.left, self.right),)


def class_pair(subject: Subject, figures: ClassPair) -> Hits:
    """Members of both classes, in any order, also with what the person takes already."""
    for one, other in _pairs(subject, figures.left, figures.right):
        first, second = sorted((one.name, other.name))
        yield Hit(
            f"{first} with {second}: {figures.effect_en}",
            f"{first}与{second}：{figures.effect_zh}",
            tuple(sorted(one.lines + other.lines)),
            inputs=(("pair", figures.pair), ("drugs", f"{first} + {second}")),
        )


def _pairs(subject: Subject, left: str, right: str) -> list[tuple[Taken, Taken]]:
    """Pairs of two different drugs of which at least one is on the prescription."""
    first, second = subject.members(left), subject.members(right)
    drugs, lines = subject.drugs, len(subject.case.lines)
    found: list[tuple[Taken, Taken]] = []
    if not first or not second or min(first[0], second[0]) >= lines:
        return found
    seen: set[tuple[int, int]] = set()
    for one, other in product(first, second):
        key = (one, other) if one < other else (other, one)
        if one == other or key[0] >= lines or key in seen:
            continue
        seen.add(key)
        if drugs[one].ingredients != drugs[other].ingredients:
            found.append((subject.taken(one), subject.taken(other)))
    return found


class LoggedPairs(Figures):
    """Class pairs that are known, and of which nobody needs to be told."""

    pairs: tuple[tuple[str, str], ...]

    def sets(self) -> frozenset[str]:
        """All classes named."""
        return frozenset(name for pair in self.pairs for name in pair)

    def pairs_of_classes(self) -> tuple[tuple[str, str], ...]:
        """All of them."""
        return self.pairs


def logged_pairs(subject: Subject, figures: LoggedPairs) -> Hits:
    """Shown in the record, stops nothing."""
    present = subject.present
    for left, right in figures.pairs:
        if left in present and right in present:
            for one, other in _pairs(subject, left, right):
                first, second = sorted((one.name, other.name))
                yield Hit(
                    f"{first} with {second}: known pair of low priority ({left} and {right})",
                    f"{first}与{second}：低优先级相互作用，仅记录",
                    tuple(sorted(one.lines + other.lines)),
                )


class Same(Figures):
    """Ingredients that may stand twice, and low-priority pairs that never stop anything."""

    except_inn: frozenset[str] = frozenset()
    except_groups: tuple[str, ...] = ()
    logged: tuple[tuple[str, str], ...] = ()
    inside: bool = Field(default=False, description="also the groups of a compound's ingredients")

    def sets(self) -> frozenset[str]:
        """All classes named."""
        return frozenset(name for pair in self.logged for name in pair)


def same_ingredient(subject: Subject, figures: Same) -> Hits:
    """The same substance twice, also hidden in a compound. What acts only where it is applied
    is no duplicate; a renewal of what the person takes already is only noted."""
    for one, other in combinations(subject.sharing, 2):
        if not (one.line or other.line):
            continue
        shared = one.drug.ingredients & other.drug.ingredients
        for name in sorted(shared - figures.except_inn):
            renewal = (one.current or other.current) and (
                one.drug.ingredients == other.drug.ingredients
            )
            first, second = sorted((one.name, other.name))
            if renewal:
                en = f"{first}: the person takes {name} already, read as a renewal"
                zh = f"{first}：患者正在使用{name}，视为续方"
            else:
                en = f"{first} and {second} both contain {name}"
                zh = f"{first}与{second}均含{name}，重复用药"
            yield Hit(
                en,
                zh,
                tuple(sorted(one.lines + other.lines)),
                severity=Severity.NOTE if renewal else None,
                inputs=(("ingredient", name),),
            )


def same_group(subject: Subject, figures: Same) -> Hits:
    """Two drugs of one chemical subgroup (ATC, fourth level) that share no ingredient."""
    said: set[tuple[Taken, Taken]] = set()
    for group in sorted(subject.shared):
        if group.startswith(figures.except_groups or ("-",)):
            continue
        members = [t for t in subject.sharing if group in _groups(t.drug, figures)]
        for one, other in combinations(members, 2):
            if figures.inside and (one, other) in said:
                continue
            said.add((one, other))
            if not (one.line or other.line) or one.drug.ingredients & other.drug.ingredients:
                continue
            first, second = sorted((one.name, other.name))
            quiet = _logged(subject, figures, one, other)
            yield Hit(
                f"{first} and {second} are both of the group {group}",
                f"{first}与{second}同属{group}类，无正当理由联用",
                tuple(sorted(one.lines + other.lines)),
                severity=Severity.NOTE if quiet else None,
                inputs=(("group", group),),
            )


def _groups(drug: Drug, figures: Same) -> tuple[str, ...]:
    return drug.inner_groups if figures.inside else drug.groups


def _logged(subject: Subject, figures: Same, one: Taken, other: Taken) -> bool:
    mine, its = subject.sets.of(one.drug), subject.sets.of(other.drug)
    return any(
        (left in mine and right in its) or (right in mine and left in its)
        for left, right in figures.logged
    )


CHECKS = {
    "class_pair": Check(ClassPair, class_pair),
    "logged_pairs": Check(LoggedPairs, logged_pairs),
    "same_ingredient": Check(Same, same_ingredient, needs=SHARED),
    "same_group": Check(Same, same_group, needs=SHARED),
}
