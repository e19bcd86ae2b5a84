"""Can these be taken together? Each two of the drugs against what the sources of the pack say."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

from services.catalogue import Catalogue, Kind, Named
from services.review.rules import Interaction, Pack, interactions_between

# Worded so that nobody reads safety into silence.
NONE_KNOWN_ZH = "在我们的资料来源中没有已知的相互作用；这不等于没有相互作用"
NONE_KNOWN_EN = "no known interaction in our sources; this does not mean that there is none"
UNKNOWN_ZH = "无法核实：药品未知，或资料来源未收载"
UNKNOWN_EN = "could not verify: the drug is unknown, or our sources do not speak of its kind"
ASKED_MAX = 20


class Status(StrEnum):
    """What can be said of two drugs."""

    INTERACTION = "interaction"
    DUPLICATE = "duplicate"
    NONE_KNOWN = "none_known"
    COULD_NOT_VERIFY = "could_not_verify"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of two of the drugs asked about, by their places in the question."""

    first: int
    second: int
    status: Status
    found: tuple[Interaction, ...] = ()
    shared: tuple[str, ...] = ()


def keys(drug: Named) -> frozenset[str]:
    """By what the pack knows a drug: codes, substances, and the names of herbal pieces."""
    inns = {f"inn:{substance.key}" for substance in drug.substances}
    pieces = {f"zh:{s.zh}" for s in drug.substances if s.kind is Kind.HERBAL}
    return drug.atc | inns | pieces


def ask(rules: Pack, drugs: Sequence[Named | None]) -> list[Answer]:
    """Each two of the drugs; None is one that nobody knows."""
    places = combinations(range(len(drugs)), 2)
    return [_answer(rules, first, second, drugs) for first, second in places]


def answered(rules: Pack, catalogue: Catalogue, names: Sequence[str]) -> dict[str, Any]:
    """The answer to a question of names, as it goes out."""
    drugs = [catalogue.understood(name) for name in names]
    return {
        "catalogue": catalogue.version,
        "rule_pack": rules.id,
        "drugs": [_drug(name, found) for name, found in zip(names, drugs, strict=True)],
        "pairs": [_pair(names, answer) for answer in ask(rules, drugs)],
    }


def _answer(rules: Pack, first: int, second: int, drugs: Sequence[Named | None]) -> Answer:
    one, other = drugs[first], drugs[second]
    if one is None or other is None:
        return Answer(first, second, Status.COULD_NOT_VERIFY)
    found = tuple(
        sorted(
            interactions_between(rules, keys(one), keys(other)),
            key=lambda known: (not known.interruptive, known.rule_id),
        )
    )
    kept = {substance.key for substance in other.substances}
    shared = tuple(s.key for s in one.substances if s.key in kept)
    if found:
        return Answer(first, second, Status.INTERACTION, found, shared)
    if shared:
        return Answer(first, second, Status.DUPLICATE, (), shared)
    # Herbs have no code, and the sources speak only of what has one.
    sayable = bool(one.atc and other.atc)
    return Answer(first, second, Status.NONE_KNOWN if sayable else Status.COULD_NOT_VERIFY)


def _drug(name: str, found: Named | None) -> dict[str, Any]:
    return {
        "name": name,
        "known": found is not None,
        "substances": [] if found is None else [s.inn for s in found.substances],
        "atc": [] if found is None else sorted(found.atc),
    }


def _pair(names: Sequence[str], answer: Answer) -> dict[str, Any]:
    return {
        "drugs": [names[answer.first], names[answer.second]],
        "status": answer.status,
        **_words(answer),
        "shared_ingredients": list(answer.shared),
        "interactions": [_known(known) for known in answer.found],
    }


def _known(known: Interaction) -> dict[str, Any]:
    return {
        "rule_id": known.rule_id,
        "severity": known.severity,
        "interruptive": known.interruptive,
        "mechanism": {"zh": known.mechanism_zh, "en": known.mechanism_en},
        "source": known.source,
        "standing": known.standing,
    }


def _words(answer: Answer) -> dict[str, str]:
    if answer.found:
        return {"text_zh": answer.found[0].text_zh, "text_en": answer.found[0].text_en}
    if answer.status is Status.DUPLICATE:
        what = ", ".join(answer.shared)
        return {"text_zh": f"含相同成分：{what}", "text_en": f"the same ingredient: {what}"}
    if answer.status is Status.COULD_NOT_VERIFY:
        return {"text_zh": UNKNOWN_ZH, "text_en": UNKNOWN_EN}
    return {"text_zh": NONE_KNOWN_ZH, "text_en": NONE_KNOWN_EN}
