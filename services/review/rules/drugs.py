"""From any name of a drug to what the rules must know of it; only here the catalogue is read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from services.catalogue import Catalogue, Content, Kind, Product, Standing, Substance
from services.catalogue.codes import ATC
from services.catalogue.uses import codes_for, is_local
from services.review.rules.case import Amount, Caution, Drug, Limit, Part, Yardstick, exact
from services.review.rules.subject import Sets

_STRENGTH = re.compile(r"([\d.]+)\s*(mg|g|µg|μg|ug|mcg|U|IU)(?![a-zA-Z/])")
# Compact enough for a whole national catalogue.
_CODES_MAX, _NAMES_MAX = 200_000, 20_000
# Amounts are compared in these units.
_SCALE = {
    "mg": (Fraction(1), "mg"),
    "g": (Fraction(1000), "mg"),
    "µg": (Fraction(1, 1000), "mg"),
    "μg": (Fraction(1, 1000), "mg"),
    "ug": (Fraction(1, 1000), "mg"),
    "mcg": (Fraction(1, 1000), "mg"),
    "U": (Fraction(1), "U"),
    "IU": (Fraction(1), "U"),
    "u": (Fraction(1), "U"),
    "iu": (Fraction(1), "U"),
}
_WHO_ROUTES = {
    "O": "oral",
    "P": "injection",
    "R": "rectal",
    "N": "inhaled",
    "SL": "sublingual",
    "TD": "transdermal",
    "Inhal": "inhaled",
    "V": "topical",
}


def amount_of(value: Fraction, unit: str) -> Amount:
    """In the units that amounts are compared in; an unknown unit stays as it is."""
    scale, known = _SCALE.get(unit, (Fraction(1), unit))
    return Amount(value * scale, known)


@dataclass(eq=False)
class _Makeup:
    """What all products of one composition share."""

    substances: tuple[Substance, ...]
    codes: Mapping[str, tuple[str, ...]]
    keys: frozenset[str]
    ingredients: frozenset[str]
    limits: Mapping[str, tuple[Limit, ...]]
    yardsticks: Mapping[str, tuple[Yardstick, ...]]
    cautions: tuple[Caution, ...]
    indications: tuple[str, ...]
    grade: str | None
    skin_test: bool
    class_standing: str


class Drugs:
    """The drugs of one catalogue, and those that only the classes of a pack name."""

    def __init__(self, catalogue: Catalogue, sets: Sets) -> None:
        self.catalogue = catalogue
        self._sets = sets
        self._by_code: dict[str, Drug] = {}
        self._alike: dict[tuple[object, ...], list[tuple[tuple[Content, ...], Drug]]] = {}
        self._by_name: dict[tuple[str, str], Drug] = {}
        self._makeups: dict[tuple[str, tuple[str, ...], str], _Makeup] = {}

    def by_code(self, code: str, name: str = "") -> Drug:
        """The drug of a product code; unknown ones are known by nothing but their name."""
        found = self._by_code.get(code)
        if found is None:
            product = self.catalogue.product(code)
            if product is None:
                return Drug(name=name or code)
            found = self._shared(product)
            if len(self._by_code) >= _CODES_MAX:
                self._by_code.clear()
            self._by_code[code] = found
        return found

    def _shared(self, product: Product) -> Drug:
        """One drug for all products in which rules see no difference."""
        # Without the contents, which are dear to hash and hardly ever differ under one strength.
        key = (
            product.generic_name,
            product.inn,
            product.atc,
            product.ingredients,
            product.strength,
            product.unit,
            product.units_per_pack,
            product.kind.value,
            product.form.value,
            product.storage.value,
            product.control.value,
            product.special.value,
            product.doping,
            product.antimicrobial,
        )
        alike = self._alike.setdefault(key, [])
        found = next((drug for contents, drug in alike if contents == product.contents), None)
        if found is None:
            found = self._of_product(product)
            alike.append((product.contents, found))
        found.codes.add(product.product_code)
        return found

    def by_name(self, text: str, way: str = "") -> Drug:
        """By product code, ATC code, INN, Chinese or generic name; `way` is how it is given."""
        product = self._by_code.get(text)
        if product is not None:
            return product
        key = (text, way)
        found = self._by_name.get(key)
        if found is None:
            found = self._resolved(text.strip(), way)
            if len(self._by_name) >= _NAMES_MAX:
                self._by_name.clear()
            self._by_name[key] = found
        return found

    def _resolved(self, text: str, way: str) -> Drug:
        product = self.catalogue.product(text)
        if product is not None:
            return self.by_code(product.product_code)
        same = self.catalogue.called(text)
        named = self.catalogue.named(text)
        if named and named.substances and way not in ("", *(p.way_in for p in same)):
            # Whatever else is sold of it, what was written is given another way.
            same = ()
        if same and not (named and not way and self._may_be_systemic(text, same, named.atc)):
            return self._of_products(text, same, way)
        if named is not None and named.substances:
            return self._of_substances(text, named.substances, named.atc, way)
        return self._of_classes(text, way)

    def _may_be_systemic(self, text: str, same: tuple[Product, ...], codes: frozenset[str]) -> bool:
        """A substance of which only creams are sold here may still be swallowed elsewhere."""
        spoken = text.lower() not in {product.generic_name.lower() for product in same}
        local = all(product.topical for product in same)
        return spoken and local and not all(is_local(code) for code in codes)

    def _of_product(self, product: Product) -> Drug:
        makeup = self._makeup(product.atc, product.ingredients, product.way_in)
        injection = product.way_in == "injection"
        return Drug(
            name=product.generic_name,
            known=True,
            code=product.product_code,
            zh=product.generic_name,
            inn=product.inn,
            atcs=(product.atc,) if product.atc else (),
            parts=self._parts(product, makeup),
            ingredients=makeup.ingredients,
            keys=makeup.keys | {f"zh:{product.generic_name}"},
            herbal=product.herbal,
            patent=product.kind is Kind.PATENT,
            form=product.form.value,
            oral=product.oral,
            topical=product.topical,
            injection=injection,
            way_in=product.way_in,
            control=product.control.value,
            special=product.special.value,
            doping=product.doping,
            antimicrobial=product.antimicrobial,
            grade=makeup.grade,
            skin_test=makeup.skin_test,
            class_standing=makeup.class_standing,
            cold_chain=product.cold_chain,
            unit=product.unit,
            units_per_pack=exact(product.units_per_pack),
            limits=makeup.limits,
            yardsticks=makeup.yardsticks,
            cautions=makeup.cautions,
            indications=makeup.indications,
        )

    def _of_products(self, text: str, same: tuple[Product, ...], way: str) -> Drug:
        """What all products of one name agree on; of what they differ in nothing is known."""
        fitting = tuple(p for p in same if way in ("", p.way_in)) or same
        first = self.by_code(fitting[0].product_code)
        ways = {product.way_in for product in fitting}
        makeups = [self._makeup(fitting[0].atc, fitting[0].ingredients, way) for way in ways]
        forms = {product.form for product in fitting}
        alike = len({(p.strength, p.unit, p.form) for p in fitting}) == 1
        bare = tuple(part._replace(strength=None) for part in first.parts)
        return replace(
            first,
            name=text,
            code="",
            atcs=tuple(sorted({product.atc for product in fitting if product.atc})),
            keys=frozenset({f"zh:{text}"}).union(first.keys, *(m.keys for m in makeups)),
            parts=first.parts if alike else bare,
            form=first.form if len(forms) == 1 else None,
            oral=_agreed({product.oral for product in fitting}),
            topical=_agreed({product.topical for product in fitting}),
            injection=_agreed({product.way_in == "injection" for product in fitting}),
            way_in=way or (first.way_in if len(ways) == 1 else ""),
            units_per_pack=None,
            unit=first.unit if len({product.unit for product in fitting}) == 1 else "",
        )

    def _of_substances(
        self, text: str, substances: tuple[Substance, ...], codes: frozenset[str], way: str
    ) -> Drug:
        names = tuple(item.key for item in substances)
        first = substances[0]
        # A code that was written out says which use is meant; a name may mean any.
        every = codes if ATC.fullmatch(text) else {c for item in substances for c in item.atc}
        own = codes_for(way, tuple(sorted(every)))
        local = bool(own) and all(is_local(code) for code in own)
        topical = way == "topical" if way else (True if local else None)
        if first.kind is Kind.HERBAL:
            topical = False
        makeup = self._makeup("", names, way or ("topical" if topical else ""))
        keys = makeup.keys | set(own) if not topical else frozenset(own)
        return Drug(
            name=text,
            known=True,
            zh=first.zh if len(substances) == 1 else text,
            inn=first.key if len(substances) == 1 else text.lower(),
            atcs=own,
            parts=tuple(Part(item.key, item.atc, None) for item in substances),
            ingredients=makeup.ingredients,
            keys=keys | ({f"zh:{first.zh}"} if len(substances) == 1 else set()),
            herbal=first.kind is Kind.HERBAL,
            patent=first.kind is Kind.PATENT,
            oral=way == "oral" if way else None,
            topical=topical,
            injection=way == "injection" if way else None,
            way_in=way,
            control=next(
                (s.control.value for s in substances if s.control.value != "none"), "none"
            ),
            doping=any(item.doping for item in substances),
            antimicrobial=any(item.antimicrobial for item in substances),
            grade=makeup.grade,
            skin_test=makeup.skin_test,
            class_standing=makeup.class_standing,
            limits=makeup.limits,
            yardsticks=makeup.yardsticks,
            cautions=makeup.cautions,
            indications=makeup.indications,
        )

    def _of_classes(self, text: str, way: str) -> Drug:
        """What only a pack's classes name: enough to look for what it must not meet."""
        word = text.lower()
        if text in self._sets.herbs:
            return Drug(
                name=text, known=True, zh=text, inn=text, herbal=True,
                ingredients=frozenset({text}), keys=frozenset({f"zh:{text}"}), oral=True,
            )  # fmt: skip
        inn = self._class_codes.get(text.upper(), word)
        codes = self._sets.names.get(inn)
        written = text.upper() if ATC.fullmatch(text.upper()) else ""
        if codes is None and not written:
            return Drug(name=text, ingredients=frozenset({word}))
        known = codes is not None
        atcs = (written,) if written else (codes or ())
        return Drug(
            name=text,
            known=known,
            inn=inn,
            atcs=atcs,
            parts=(Part(inn, codes or atcs, None),),
            ingredients=frozenset({inn}),
            keys=frozenset({*atcs, *(codes or ()), f"inn:{inn}"}),
            topical=True if way == "topical" else None,
            injection=way == "injection" if way else None,
            oral=way == "oral" if way else None,
            way_in=way,
        )

    def _makeup(self, atc: str, names: tuple[str, ...], way: str) -> _Makeup:
        key = (atc, names, way)
        found = self._makeups.get(key)
        if found is None:
            found = self._makeups[key] = self._composed(atc, names, way)
        return found

    def _composed(self, atc: str, names: tuple[str, ...], way: str) -> _Makeup:
        topical = way == "topical"
        substances = tuple(
            item for item in (self.catalogue.substances.get(name) for name in names) if item
        )
        codes = {name: self._codes(name) for name in names}
        keys = {atc} if atc else set()
        if not topical:
            for name in names:
                keys.add(f"inn:{name}")
                # The product's own code says which use is meant, where it is the only drug in it.
                if len(names) > 1 or not atc:
                    keys.update(codes_for(way, codes[name]))
        grades = {item.grade.value for item in substances if item.grade is not None}
        return _Makeup(
            substances=substances,
            codes=codes,
            keys=frozenset(keys),
            ingredients=frozenset(names),
            limits={item.key: _limits(item) for item in substances if item.dose_limits},
            yardsticks={item.key: _yardsticks(item) for item in substances if item.ddds},
            cautions=() if topical else tuple(c for item in substances for c in _cautions(item)),
            indications=_indications(substances) if len(substances) == len(names) else (),
            grade=max(grades, key=("non_restricted", "restricted", "special").index, default=None),
            skin_test=not topical and any(item.skin_test for item in substances),
            class_standing=_class_standing(substances),
        )

    def _codes(self, name: str) -> tuple[str, ...]:
        substance = self.catalogue.substances.get(name)
        if substance is not None and substance.atc:
            return substance.atc
        single = {p.atc for p in self.catalogue.called(name) if p.atc and not p.compound}
        return tuple(sorted(single.union(self._sets.names.get(name, ()))))

    def _parts(self, product: Product, makeup: _Makeup) -> tuple[Part, ...]:
        amounts = {content.substance: content for content in product.contents}
        parts = []
        for name in product.ingredients:
            content = amounts.get(name)
            strength = None
            if content is not None and content.amount is not None:
                strength = amount_of(Fraction(content.amount), content.unit)
            elif not product.compound and not product.contents:
                strength = _written_strength(product)
            parts.append(Part(name, makeup.codes[name], strength))
        return tuple(parts)

    @cached_property
    def _class_codes(self) -> Mapping[str, str]:
        return {code: inn for inn, codes in self._sets.names.items() for code in codes}

    @cached_property
    def words(self) -> frozenset[str]:
        """Every name by which a substance or product is known, in lower case."""
        return self.catalogue.words.union(self._sets.names)


def _class_standing(substances: Iterable[Substance]) -> str:
    """Empty where every class was read in its source; else it is said to be verified."""
    known = (Standing.VERIFIED, Standing.DERIVED)
    sure = all(item.class_standing in known for item in substances)
    return "" if sure else Standing.TO_BE_VERIFIED.value.replace("_", " ")


def _agreed(values: Iterable[bool | None]) -> bool | None:
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _written_strength(product: Product) -> Amount | None:
    # "50 mg" is one unit's; "10 mg/mL" and "5 g:0.1 g" are not.
    found = _STRENGTH.fullmatch(product.strength.strip())
    return amount_of(Fraction(found[1]), found[2]) if found else None


def _fraction(value: object) -> Fraction | None:
    return None if value is None else Fraction(str(value))


def _limits(item: Substance) -> tuple[Limit, ...]:
    found = []
    for row in item.dose_limits:
        scale, unit = _SCALE.get(row.unit, (Fraction(1), row.unit))
        numbers = [_fraction(v) for v in (row.max_daily, row.max_daily_per_kg, row.max_single)]
        daily, per_kg, single = (None if n is None else n * scale for n in numbers)
        found.append(
            Limit(
                row.route,
                row.from_months,
                row.below_months,
                daily,
                per_kg,
                single,
                unit,
                row.source.title,
                row.standing.value in ("verified", "derived"),
            )
        )
    return tuple(found)


def _yardsticks(item: Substance) -> tuple[Yardstick, ...]:
    found = []
    for row in item.ddds:
        amount = amount_of(Fraction(row.amount), row.unit)
        found.append(Yardstick(amount.value, amount.unit, _WHO_ROUTES.get(row.route, "")))
    return tuple(found)


def _cautions(item: Substance) -> Iterable[Caution]:
    for row in item.cautions:
        yield Caution(
            item.key, row.concern.value, row.action.value, _fraction(row.at_least),
            _fraction(row.below), row.icd, row.text_en, row.text_zh, row.source.title,
            row.standing.value.replace("_", " "),
        )  # fmt: skip


def _indications(substances: tuple[Substance, ...]) -> tuple[str, ...]:
    return tuple(sorted({row.icd for item in substances for row in item.indications}))
