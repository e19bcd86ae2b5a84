"""Search over the instructions: Chinese, the initials of its pinyin, English, and what they say."""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from services.catalogue.book import Catalogue
from services.catalogue.instruction import body
from services.catalogue.model import Form, Product

__all__ = ["Hit", "Search"]

HITS_MAX = 200
WORDS_MAX = 8
WORD_CHARACTERS_MAX = 40
# Where a word was found, the best first: begins a name, stands in one, begins or stands in the
# initials, or only in what the instruction says.
_BEGINS, _NAMED, _INITIALS, _SAID = range(4)
_LINE, _BAR = "\n", "|"
_PART = _LINE + _BAR


@dataclass(frozen=True, slots=True)
class Hit:
    """One drug (generic name, form, strength) with the codes of its packs; `rank` 0 is the best."""

    generic_name: str
    inn: str
    form: Form
    strength: str
    product_codes: tuple[str, ...]
    rank: int


class _Lines:
    """Many lines as one string: finding a word in all of them is one scan in C."""

    def __init__(self, lines: Iterable[str]) -> None:
        parts, starts, at = [], [], 0
        for line in lines:
            starts.append(at)
            parts.append(line)
            at += len(line) + 1
        self._text = _LINE + _LINE.join(parts) + _LINE
        self._starts = starts

    def holding(self, word: str) -> dict[int, bool]:
        """The numbers of lines with this word, and whether one of their parts begins with it."""
        found: dict[int, bool] = {}
        at = self._text.find(word)
        while at >= 0:
            number = bisect_right(self._starts, at - 1) - 1
            found[number] = found.get(number, False) or self._text[at - 1] in _PART
            at = self._text.find(word, at + len(word))
        return found


class Search:
    """An index of one catalogue. Building it takes a scan; asking takes a few milliseconds."""

    def __init__(self, catalogue: Catalogue) -> None:
        drugs: dict[tuple[str, Form, str], list[Product]] = {}
        for item in catalogue.products.values():
            drugs.setdefault(item.same_drug, []).append(item)
        self._drugs = [packs[0] for packs in drugs.values()]
        self._codes = [tuple(p.product_code for p in packs) for packs in drugs.values()]
        self._names = _Lines(_BAR.join(_names(catalogue, p)) for p in self._drugs)
        self._initials = _Lines(_initials(catalogue, p) for p in self._drugs)
        said: dict[tuple[str, tuple[str, ...], str], int] = {}
        self._said_by: list[list[int]] = []
        texts: list[str] = []
        for number, item in enumerate(self._drugs):
            makeup = (item.atc, item.ingredients, item.way_in)
            if makeup not in said:
                said[makeup] = len(texts)
                texts.append(_plain(body(catalogue, item)))
                self._said_by.append([])
            self._said_by[said[makeup]].append(number)
        self._said = _Lines(texts)

    def find(self, query: str, limit: int = 20) -> list[Hit]:
        """The drugs that have all words of the query, the best first. No words: nothing."""
        words = [word[:WORD_CHARACTERS_MAX] for word in _plain(query).split()[:WORDS_MAX]]
        if not words:
            return []
        ranks = self._ranks(words[0])
        for word in words[1:]:
            more = self._ranks(word)
            ranks = {n: max(rank, more[n]) for n, rank in ranks.items() if n in more}
        best = sorted(ranks, key=lambda n: (ranks[n], len(self._drugs[n].generic_name), n))
        return [self._hit(n, ranks[n]) for n in best[: min(limit, HITS_MAX)]]

    def _ranks(self, word: str) -> dict[int, int]:
        ranks: dict[int, int] = {}
        for number, begins in self._names.holding(word).items():
            ranks[number] = _BEGINS if begins else _NAMED
        if word.isascii():
            for number, begins in self._initials.holding(word).items():
                ranks.setdefault(number, _INITIALS if begins else _SAID)
        for text in self._said.holding(word):
            for number in self._said_by[text]:
                ranks.setdefault(number, _SAID)
        return ranks

    def _hit(self, number: int, rank: int) -> Hit:
        item = self._drugs[number]
        codes = self._codes[number]
        return Hit(item.generic_name, item.inn, item.form, item.strength, codes, rank)


def _plain(text: str) -> str:
    # The separators of lines and names are never part of a word.
    folded = unicodedata.normalize("NFKC", text).casefold().replace(_BAR, " ")
    return " ".join(folded.split())


def _names(catalogue: Catalogue, item: Product) -> list[str]:
    names = [item.generic_name, item.name_en, item.inn, item.form.value]
    for substance in catalogue.ingredients(item):
        names += [substance.zh, substance.inn, *substance.aliases, *substance.atc]
    return [_plain(name) for name in dict.fromkeys(names) if name]


def _initials(catalogue: Catalogue, item: Product) -> str:
    parts = [item.initials, *(s.initials for s in catalogue.ingredients(item))]
    return _BAR.join(dict.fromkeys(part for part in parts if part))
