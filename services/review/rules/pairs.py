"""What is known between two drugs, for those who ask without a prescription."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.review.rules.case import Drug, Severity
from services.review.rules.checks.together import ClassPair, LoggedPairs
from services.review.rules.pack import Pack


@dataclass(frozen=True, slots=True)
class Interaction:
    """One known pair; `interruptive` ones are never passed without the prescriber."""

    rule_id: str
    severity: Severity
    interruptive: bool
    text_en: str
    text_zh: str
    mechanism_en: str
    mechanism_zh: str
    source: str
    standing: str


def interactions_between(
    pack: Pack, one: frozenset[str], other: frozenset[str]
) -> Iterator[Interaction]:
    """The pairs of two sets of keys: ATC codes, `inn:` names, `zh:` names of herbal pieces."""
    first = pack.sets.of(Drug(name="", keys=one))
    second = pack.sets.of(Drug(name="", keys=other))
    for rule in pack.rules:
        figures = rule.figures
        if isinstance(figures, ClassPair):
            pairs = [(figures.left, figures.right)]
            mechanism = (figures.effect_en, figures.effect_zh)
        elif isinstance(figures, LoggedPairs):
            pairs = list(figures.pairs)
            mechanism = (rule.text.en, rule.text.zh)
        else:
            continue
        for left, right in pairs:
            if (left in first and right in second) or (right in first and left in second):
                yield Interaction(
                    rule_id=rule.id,
                    severity=rule.severity,
                    interruptive=rule.severity is not Severity.NOTE,
                    text_en=f"{left} × {right}" if rule.severity is Severity.NOTE else rule.text.en,
                    text_zh=rule.text.zh,
                    mechanism_en=mechanism[0],
                    mechanism_zh=mechanism[1],
                    source=rule.source,
                    standing=rule.standing,
                )
