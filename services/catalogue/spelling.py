"""Names of drugs as people write them, with salt, form or way of processing, down to the name that
a catalogue knows. The words that may be left out are data (`spellings.csv`)."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from services.catalogue.model import Source, Standing

__all__ = ["Place", "Spelling", "Spellings", "Spelt"]

_SPOKEN_MAX = 60


class Place(StrEnum):
    """Where a word stands in a name, and what it says: a salt, a form, how a piece was prepared."""

    SALT_BEFORE = "salt_before"
    SALT_AFTER = "salt_after"
    FORM_BEFORE = "form_before"
    FORM_AFTER = "form_after"
    PIECE_BEFORE = "piece_before"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One word; `way` is how a form goes in, empty where the form alone does not tell."""

    word: str
    place: Place
    way: str
    source: Source
    standing: Standing


class Spelt(NamedTuple):
    """A plainer name, the way in that its form told, and whether only a piece can be meant."""

    name: str
    way: str
    piece: bool


class Spellings:
    """The words of one catalogue; without any nothing is left out."""

    def __init__(self, rows: Iterable[Spelling] = ()) -> None:
        self._words: dict[Place, list[Spelling]] = {place: [] for place in Place}
        for row in rows:
            self._words[row.place].append(row)
        for words in self._words.values():
            # 缓释片 before 片: what is longer says more.
            words.sort(key=lambda row: (-len(row.word), row.word))

    def plainer(self, text: str) -> Iterator[Spelt]:
        """Plainer names for one that nobody knows, the nearest first; never the name itself."""
        whole = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        if len(whole) > _SPOKEN_MAX:
            return
        said = {text}
        if whole not in said:
            said.add(whole)
            yield Spelt(whole, "", False)
        bare, way = self._formless(whole)
        for name in self._saltless(bare):
            if name not in said:
                said.add(name)
                yield Spelt(name, way, False)
        for row in self._words[Place.PIECE_BEFORE]:
            rest = whole.removeprefix(row.word)
            if rest and rest != whole:
                yield Spelt(rest, "", True)

    def _formless(self, name: str) -> tuple[str, str]:
        way = ""
        for row in self._words[Place.FORM_BEFORE]:
            if name.startswith(row.word):
                name, way = name.removeprefix(row.word), row.way
                break
        for row in self._words[Place.FORM_AFTER]:
            if name.endswith(row.word) and name != row.word:
                return name.removesuffix(row.word).strip(), way or row.way
        return name.strip(), way

    def _saltless(self, name: str) -> Iterator[str]:
        yield name
        ends = [row.word for row in self._words[Place.SALT_AFTER] if name.endswith(row.word)]
        bases = [name, *(name.removesuffix(word).strip() for word in ends)]
        yield from (base for base in bases[1:] if base)
        for base in bases:
            for row in self._words[Place.SALT_BEFORE]:
                rest = base.removeprefix(row.word)
                if rest and rest != base:
                    yield rest
