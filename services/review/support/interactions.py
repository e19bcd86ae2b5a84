"""Can these be taken together? Pairs of drugs against what the sources say, in any order."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.catalogue import Catalogue, Named, Standing

# Worded so that nobody reads safety into silence.
NONE_KNOWN_ZH = "在我们的资料来源中没有已知的相互作用；这不等于没有相互作用"
NONE_KNOWN_EN = "no known interaction in our sources; this does not mean that there is none"
UNVERIFIED_ZH = "无法核实：药品未知"
UNVERIFIED_EN = "could not verify: unknown drug"


class Level(StrEnum):
    """Must interrupt, or is known and only recorded."""

    CONTRAINDICATED = "contraindicated"
    LOGGED = "logged"


class Status(StrEnum):
    """What can be said of two drugs."""

    INTERACTION = "interaction"
    DUPLICATE = "duplicate"
    NONE_KNOWN = "none_known"
    COULD_NOT_VERIFY = "could_not_verify"


class Pair(BaseModel):
    """Two classes of drugs by ATC codes or their beginnings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    level: Level
    zh: str
    en: str
    mechanism_zh: str
    mechanism_en: str
    source: str
    standing: Standing
    a: tuple[str, ...] = Field(min_length=1)
    b: tuple[str, ...] = Field(min_length=1)

    def touches(self, one: frozenset[str], other: frozenset[str]) -> bool:
        """Whether one drug is of either class and the other of the other."""
        return (_any(one, self.a) and _any(other, self.b)) or (
            _any(one, self.b) and _any(other, self.a)
        )


class Pairs(BaseModel):
    """All pairs of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    sources: Mapping[str, str]
    pair: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of two of the drugs asked about, by their places in the question."""

    first: int
    second: int
    status: Status
    found: tuple[Pair, ...]
    shared: tuple[str, ...]


@cache
def pairs() -> Pairs:
    """The pairs of this version. Raises ValueError when the file is wrong."""
    text = files(__package__).joinpath("interactions.toml").read_text(encoding="utf-8")
    return Pairs.model_validate(tomllib.loads(text))


def marks(drug: Named) -> frozenset[str]:
    """By what a drug is found in the pairs: its codes, and its substances for those without one."""
    return drug.atc | {f"inn:{substance.key}" for substance in drug.substances}


def between(one: frozenset[str], other: frozenset[str]) -> tuple[Pair, ...]:
    """The pairs that two drugs make by their marks, the strongest first."""
    found = [pair for pair in pairs().pair if pair.touches(one, other)]
    return tuple(sorted(found, key=lambda pair: (list(Level).index(pair.level), pair.id)))


def ask(drugs: Sequence[Named | None]) -> list[Answer]:
    """Each two of the drugs; None is one that nobody knows."""
    places = combinations(range(len(drugs)), 2)
    return [_answer(first, second, drugs[first], drugs[second]) for first, second in places]


def answered(catalogue: Catalogue, names: Sequence[str]) -> dict[str, Any]:
    """The answer to a question of names, as it goes out."""
    drugs = [catalogue.named(name) for name in names]
    return {
        "catalogue": catalogue.version,
        "interactions": pairs().version,
        "drugs": [_drug(name, found) for name, found in zip(names, drugs, strict=True)],
        "pairs": [_pair(names, answer) for answer in ask(drugs)],
    }


def _any(codes: frozenset[str], members: tuple[str, ...]) -> bool:
    return any(code.startswith(members) for code in codes)


def _answer(first: int, second: int, one: Named | None, other: Named | None) -> Answer:
    if one is None or other is None:
        return Answer(first, second, Status.COULD_NOT_VERIFY, (), ())
    found = between(marks(one), marks(other))
    kept = {substance.key for substance in other.substances}
    shared = tuple(s.key for s in one.substances if s.key in kept)
    if shared and not found:
        return Answer(first, second, Status.DUPLICATE, (), shared)
    if not found and (not one.atc or not other.atc):
        # Herbs have no code here, and what has no code is in none of the sources.
        return Answer(first, second, Status.COULD_NOT_VERIFY, (), shared)
    status = Status.INTERACTION if found else Status.NONE_KNOWN
    return Answer(first, second, status, found, shared)


def _drug(name: str, found: Named | None) -> dict[str, Any]:
    substances = [] if found is None else [s.inn for s in found.substances]
    return {
        "name": name,
        "known": found is not None,
        "substances": substances,
        "atc": [] if found is None else sorted(found.atc),
    }


def _pair(names: Sequence[str], answer: Answer) -> dict[str, Any]:
    return {
        "drugs": [names[answer.first], names[answer.second]],
        "status": answer.status,
        **_words(answer),
        "shared_ingredients": list(answer.shared),
        "interactions": [
            {
                **pair.model_dump(mode="json", exclude={"a", "b", "source"}),
                "source": pairs().sources[pair.source],
            }
            for pair in answer.found
        ],
    }


def _words(answer: Answer) -> dict[str, str]:
    if answer.found:
        return {"text_zh": answer.found[0].zh, "text_en": answer.found[0].en}
    if answer.status is Status.DUPLICATE:
        what = ", ".join(answer.shared)
        return {"text_zh": f"含相同成分：{what}", "text_en": f"the same ingredient: {what}"}
    if answer.status is Status.COULD_NOT_VERIFY:
        return {"text_zh": UNVERIFIED_ZH, "text_en": UNVERIFIED_EN}
    return {"text_zh": NONE_KNOWN_ZH, "text_en": NONE_KNOWN_EN}
