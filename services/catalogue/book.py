"""The catalogue in memory: every way in which a drug can be named leads to what it is made of."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from services.catalogue.codes import ATC
from services.catalogue.model import (
    Caution,
    Diagnosis,
    DoseLimit,
    Dosing,
    Fact,
    Guidance,
    Kind,
    Product,
    Substance,
)
from services.catalogue.spelling import Spellings
from services.catalogue.uses import SYSTEMIC_WAYS, codes_for, is_local

__all__ = ["Catalogue", "Named"]

_ATC4 = 5
_ICD_SHORTEST = 3
# How Chinese generic names end: the form, maybe with what it does.
_FORM = re.compile(
    "(缓释|控释|肠溶|分散|咀嚼|泡腾|口崩|口腔崩解|软|滴)?"
    "(片|胶囊|颗粒|丸|散|糖浆|合剂|口服液|口服溶液|口服混悬液|混悬液|注射液|乳膏|软膏|凝胶|滴眼液|喷雾剂|气雾剂|栓)$"
)

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Named:
    """What a name leads to: one product or none, the substances, and all their ATC codes."""

    text: str
    product: Product | None
    substances: tuple[Substance, ...]
    atc: frozenset[str]

    @property
    def atc4(self) -> frozenset[str]:
        """The chemical subgroups (five characters) of all of it."""
        return frozenset(code[:5] for code in self.atc)


@dataclass(frozen=True)
class Catalogue:
    """Products and substances of one version. Build it with `Catalogue.of`."""

    version: str
    products: Mapping[str, Product]
    substances: Mapping[str, Substance]
    diagnoses: Mapping[str, Diagnosis]
    spellings: Spellings = field(default_factory=Spellings, compare=False)
    _made_of: dict[tuple[str, tuple[str, ...], str], frozenset[str]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        version: str,
        products: Iterable[Product],
        substances: Iterable[Substance],
        diagnoses: Iterable[Diagnosis] = (),
        spellings: Spellings | None = None,
    ) -> "Catalogue":
        """A catalogue of these rows. Raises ValueError when a key stands twice."""
        by_code: dict[str, Product] = {}
        for item in products:
            if by_code.setdefault(item.product_code, item) is not item:
                raise ValueError(f"product code {item.product_code} stands twice")
        by_key: dict[str, Substance] = {}
        for substance in substances:
            if by_key.setdefault(substance.key, substance) is not substance:
                raise ValueError(f"substance {substance.key} stands twice")
        by_icd = MappingProxyType({item.icd: item for item in diagnoses})
        known = (MappingProxyType(by_code), MappingProxyType(by_key), by_icd)
        return cls(version, *known, spellings or Spellings())

    def product(self, code: str) -> Product | None:
        """By product code (NHSA shape), 本位码 or 批准文号; None when unknown."""
        found = self.products.get(code)
        return found if found is not None else self._by_other_code.get(code)

    def substance(self, name: str) -> Substance | None:
        """By INN, Chinese name or an alias, whatever the case; None when unknown."""
        key = name.strip().lower()
        found = self.substances.get(key)
        return found if found is not None else self._by_name.get(key)

    def ingredients(self, product: Product) -> tuple[Substance, ...]:
        """The substances of a product, also those hidden in a patent medicine; unknown ones not."""
        found = (self.substances.get(key) for key in product.ingredients)
        return tuple(item for item in found if item is not None)

    def atc_codes(self, product: Product) -> frozenset[str]:
        """The product's own code and those of its ingredients that are used this way in.

        A cream keeps to the codes of creams: what acts only on the skin interacts with nothing.
        Cached: compositions are few, however many packs there are.
        """
        makeup = (product.atc, product.ingredients, product.way_in)
        codes = self._made_of.get(makeup)
        if codes is None:
            own = (product.atc,) if product.atc else ()
            if len(product.ingredients) == 1 and own and is_local(product.atc):
                codes = frozenset(own)
            else:
                parts = [
                    code
                    for item in self.ingredients(product)
                    for code in codes_for(product.way_in, item.atc)
                    if not is_local(product.atc) or code[0] == product.atc[0]
                ]
                codes = frozenset((*own, *parts))
            self._made_of[makeup] = codes
        return codes

    def cautions(self, product: Product) -> tuple[tuple[Substance, Caution], ...]:
        """What to mind with this product, per ingredient. A local use has only its own group's."""
        return tuple(
            (item, fact)
            for item in self.ingredients(product)
            for fact in item.cautions
            if self._meant(product, fact)
        )

    def dose_limits(self, product: Product) -> tuple[tuple[Substance, DoseLimit], ...]:
        """The label's maxima by this way in, per ingredient."""
        way = product.way_in
        return tuple(
            (item, fact)
            for item in self.ingredients(product)
            for fact in item.dose_limits
            if fact.route in ("", way)
        )

    def dosings(self, product: Product) -> tuple[tuple[Substance, Dosing], ...]:
        """Usual ways to dose by this way in; of compounds none is known."""
        if product.compound:
            return ()
        way = product.way_in
        found = self.ingredients(product)
        return tuple((item, fact) for item in found for fact in item.dosings if fact.route == way)

    def indications(self, product: Product) -> frozenset[str]:
        """ICD-10 prefixes that any ingredient is given for in this use; empty: nobody knows."""
        return frozenset(
            fact.icd
            for item in self.ingredients(product)
            for fact in item.indications
            if self._meant(product, fact)
        )

    def diagnosis(self, code: str) -> Diagnosis | None:
        """The name of a diagnosis: its own, or that of the longest group it belongs to."""
        parts = (code[:size] for size in range(len(code), _ICD_SHORTEST - 1, -1))
        return next((self.diagnoses[part] for part in parts if part in self.diagnoses), None)

    def guidance(self, product: Product) -> tuple[tuple[Substance, Guidance], ...]:
        """Sentences for the patient, per ingredient."""
        return tuple(
            (item, fact)
            for item in self.ingredients(product)
            for fact in item.guidance
            if self._meant(product, fact)
        )

    def _meant(self, product: Product, fact: Fact) -> bool:
        if fact.scope:
            return any(code.startswith(fact.scope) for code in self.atc_codes(product))
        return product.way_in in SYSTEMIC_WAYS

    def of_atc(self, prefix: str) -> tuple[Substance, ...]:
        """Substances with a code that begins so: one character to seven; five make a subgroup."""
        if len(prefix) == _ATC4:
            return self._by_atc4.get(prefix, ())
        found = (s for s in self.substances.values() if any(c.startswith(prefix) for c in s.atc))
        return tuple(found)

    def products_of(self, substance: str) -> tuple[Product, ...]:
        """The products that hold a substance (by key), alone or with others."""
        return self._by_ingredient.get(substance, ())

    def same_drug(self, product: Product) -> tuple[Product, ...]:
        """All with the same generic name, form and strength, whoever makes them; itself too."""
        return self._by_drug.get(product.same_drug, ())

    def named(self, text: str) -> Named | None:
        """Any name: a code of a product, an ATC code, an INN, a Chinese substance or generic name.

        None when nobody knows it.
        """
        word = text.strip()
        found = self.product(word)
        if found is not None:
            return Named(text, found, self.ingredients(found), self.atc_codes(found))
        substances = self._substances_named(word)
        if substances:
            own = {word} if ATC.fullmatch(word) else set()
            codes = own or {code for item in substances for code in codes_for("", item.atc)}
            return Named(text, None, substances, frozenset(codes))
        alike = self._by_stem.get(word, ())
        generic = self._by_generic.get(word.lower()) or (alike[0] if alike else None)
        if generic is None:
            return None
        # A generic name says what is in it, not which maker's pack or strength it is.
        return Named(text, None, self.ingredients(generic), self.atc_codes(generic))

    def understood(self, text: str) -> Named | None:
        """As `named`, also where it was written with its salt, its form, or how it was prepared."""
        found = self.named(text)
        if found is not None:
            return found
        for spelt in self.spellings.plainer(text.strip()):
            plain = self.named(spelt.name)
            pieces = plain and all(item.kind is Kind.HERBAL for item in plain.substances)
            if plain is not None and (pieces or not spelt.piece):
                every = {code for item in plain.substances for code in item.atc} or plain.atc
                codes = codes_for(spelt.way, tuple(sorted(every)))
                return replace(plain, text=text, atc=frozenset(codes))
        return None

    def called(self, name: str) -> tuple[Product, ...]:
        """The products of one generic name (also without its form), INN or ATC code, whatever the
        case."""
        return self._by_any_name.get(name.lower()) or self._by_stem.get(name, ())

    @cached_property
    def words(self) -> frozenset[str]:
        """Every name by which a substance or product is known, in lower case."""
        found = set(self._by_any_name)
        for item in self.substances.values():
            found.update(name.lower() for name in (item.inn, item.zh, *item.aliases) if name)
        for product in self.products.values():
            found.update(product.ingredients)
        return frozenset(found)

    def __len__(self) -> int:
        return len(self.products)

    def _substances_named(self, word: str) -> tuple[Substance, ...]:
        if ATC.fullmatch(word):
            return self._by_atc5.get(word, ())
        found = self.substance(word)
        return () if found is None else (found,)

    @cached_property
    def _by_other_code(self) -> dict[str, Product]:
        codes: dict[str, Product] = {}
        for item in self.products.values():
            for code in (item.standard_code, item.approval_number):
                if code:
                    codes.setdefault(code, item)
        return codes

    @cached_property
    def _by_name(self) -> dict[str, Substance]:
        names: dict[str, Substance] = {}
        for item in self.substances.values():
            for name in (item.inn, item.zh, *item.aliases):
                names.setdefault(name.lower(), item)
        return names

    @cached_property
    def _by_generic(self) -> dict[str, Product]:
        names: dict[str, Product] = {}
        for item in self.products.values():
            for name in (item.generic_name, item.name_en, item.inn):
                names.setdefault(name.lower(), item)
        names.pop("", None)
        return names

    @cached_property
    def _by_any_name(self) -> dict[str, tuple[Product, ...]]:
        grouped = _grouped(
            (name, item)
            for item in self.products.values()
            for name in {item.inn.lower(), item.generic_name.lower(), item.atc.lower()}
        )
        grouped.pop("", None)
        return grouped

    @cached_property
    def _by_stem(self) -> dict[str, tuple[Product, ...]]:
        """By generic names without their form, where all of that name are made of the same."""
        stems = _grouped(
            (_FORM.sub("", item.generic_name), item)
            for item in self.products.values()
            if _FORM.search(item.generic_name)
        )
        return {
            stem: items
            for stem, items in stems.items()
            if stem
            and stem not in self._by_name
            and len({frozenset(item.ingredients) for item in items}) == 1
        }

    @cached_property
    def _by_atc5(self) -> dict[str, tuple[Substance, ...]]:
        return _grouped((code, s) for s in self.substances.values() for code in s.atc)

    @cached_property
    def _by_atc4(self) -> dict[str, tuple[Substance, ...]]:
        return _grouped((code, s) for s in self.substances.values() for code in sorted(s.atc4))

    @cached_property
    def _by_ingredient(self) -> dict[str, tuple[Product, ...]]:
        return _grouped((key, p) for p in self.products.values() for key in p.ingredients)

    @cached_property
    def _by_drug(self) -> dict[tuple[object, ...], tuple[Product, ...]]:
        return _grouped((p.same_drug, p) for p in self.products.values())


def _grouped(pairs: Iterator[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}
