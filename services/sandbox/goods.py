"""The catalogue as hospitals and pharmacies of the sandbox use it: regimens that come out even."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from services.catalogue import Control, Form, Kind, Product, Special, catalogue, products

SHORT_DAYS = range(7, 2, -1)
LONG_DAYS = range(28, 13, -1)
VERY_LONG_DAYS = range(84, 28, -1)
# used_frqu codes with their doses a day, the usual ones first.
FREQUENCIES = (("11", 1), ("12", 2), ("13", 3), ("14", 4))
DOSES = (1, 2, 5, 10, 15, 20, 25)
PACKS_MAX = 4
# The largest dose that is still believable, by the unit it is written in.
_DOSE_MAX = {"mL": 10, "U": 25, "pellet": 15, "drop": 5}
_DOSE_MAX_ELSE = 2
_ROUTES = {
    Form.INJECTION: "4",
    Form.INHALER: "5",
    Form.EYE_DROPS: "607",
    Form.CREAM: "612",
    Form.OINTMENT: "612",
}
# Adults of every age (full months) that the sandbox treats.
_AGES = (264, 600, 1032)
# What no doctor of the sandbox writes beside another of these: it is not her day for mistakes.
_HEART_RHYTHM = frozenset(
    {"amiodarone", "azithromycin", "citalopram", "clarithromycin", "domperidone", "erythromycin"}
    | {"escitalopram", "moxifloxacin", "ondansetron", "sotalol", "sulpiride"}
)
# Diseases that forbid what is often prescribed with their remedies.
_ULCERS = ("K25", "K26", "K27", "K28")
_ICD = re.compile(r"[A-Z]\d{2}(\.\d{1,3})?")
# Chronic use: heart, lipids, diabetes, gout, thyroid, mood, lung.
_CHRONIC = ("A10", "B01", "C", "H03", "M04", "N06A", "R03")


@dataclass(frozen=True, slots=True)
class Regimen:
    """A dose, a frequency and packs that last exactly `days`."""

    product: Product
    dose: int
    frequency: str
    days: int
    packs: int

    @property
    def route(self) -> str:
        """`drug_medc_way` code."""
        return _ROUTES.get(self.product.form, "1")


@cache
def regimens(days: range) -> dict[str, Regimen]:
    """One regimen within these days for each product that has one that comes out even."""
    found = {code: _even(product, days) for code, product in products().items()}
    return {code: regimen for code, regimen in found.items() if regimen is not None}


@cache
def acute() -> tuple[Product, ...]:
    """What an ordinary sheet of at most seven days may hold."""
    short = regimens(SHORT_DAYS)
    return tuple(
        p
        for p in _everyday()
        if p.product_code in short and not p.cold_chain and not p.atc.startswith(_CHRONIC)
    )


@cache
def chronic() -> tuple[Product, ...]:
    """What a long sheet may hold, up to four weeks and up to twelve."""
    both = regimens(LONG_DAYS).keys() & regimens(VERY_LONG_DAYS).keys()
    return tuple(
        p
        for p in _everyday()
        if p.product_code in both
        and not (p.cold_chain or p.antimicrobial)
        and p.atc.startswith(_CHRONIC)
    )


@cache
def chilled() -> tuple[Product, ...]:
    """Cold-chain products that an ordinary sheet may hold."""
    short = regimens(SHORT_DAYS)
    return tuple(p for p in _everyday() if p.product_code in short and p.cold_chain)


@cache
def forbidden_online() -> tuple[Product, ...]:
    """Products by the names on the banned list; every one must be rejected."""
    names = {"digoxin", "amiodarone", "carbamazepine", "colchicine", "ticagrelor"}
    short = regimens(SHORT_DAYS)
    return tuple(p for p in products().values() if p.inn in names and p.product_code in short)


@cache
def assortment() -> tuple[Product, ...]:
    """What a pharmacy of the sandbox may have on its shelves: all that is asked for."""
    wanted = {p.product_code: p for group in (acute(), chronic(), chilled()) for p in group}
    return tuple(wanted[code] for code in sorted(wanted))


def apart(product: Product) -> frozenset[str]:
    """What no two drugs of one order share: a substance, a chemical subgroup, a risk."""
    shared = {*product.ingredients, product.atc[:5] or product.product_code}
    return frozenset(shared | ({"heart rhythm"} if product.inn in _HEART_RHYTHM else set()))


def disease_for(product: Product, known: Iterable[str]) -> str | None:
    """The ICD-10 code of a disease it is given for, unless a known one is; None when unstated."""
    codes = [row.icd for item in catalogue().ingredients(product) for row in item.indications]
    if any(disease.startswith(tuple(codes)) for disease in known):
        return None
    usable = (code for code in codes if _ICD.fullmatch(code) and not code.startswith(_ULCERS))
    return next(usable, None)


def skin_tested(product: Product) -> bool:
    """Whether a skin test comes before it."""
    return any(item.skin_test for item in catalogue().ingredients(product))


def price_fen(product_code: str) -> int:
    """The catalogue's price of a pack; pharmacies ask a few per cent more or less."""
    return products()[product_code].default_price_fen


def _everyday() -> Iterable[Product]:
    return (
        p
        for p in products().values()
        if p.everyday
        and p.kind is not Kind.HERBAL
        and p.control is Control.NONE
        and p.special is Special.NONE
    )


def _even(product: Product, days: range) -> Regimen | None:
    dose_max = _DOSE_MAX.get(product.unit, _DOSE_MAX_ELSE)
    fitting = [
        Regimen(product, dose, frequency, length, packs)
        for length in days
        for frequency, times in FREQUENCIES
        for dose in DOSES
        if dose <= dose_max
        and (packs := product.packs_for(Decimal(dose), Decimal(times), length)) <= PACKS_MAX
        and packs * product.units_per_pack == dose * times * length
        and _within_label(product, dose, times)
    ]
    return min(fitting, key=lambda r: (r.packs, r.dose, -r.days), default=None)


def _within_label(product: Product, dose: int, times: int) -> bool:
    """Whether the label's maxima for adults of every age allow it."""
    for substance in catalogue().ingredients(product):
        content = next((c for c in product.contents if c.substance == substance.key), None)
        if content is None or content.amount is None:
            continue
        single = content.amount * dose
        for age in _AGES:
            for limit in substance.dose_limits:
                if limit.unit != content.unit or not limit.covers(age, product.way_in):
                    continue
                if limit.max_single is not None and single > limit.max_single:
                    return False
                if limit.max_daily is not None and single * times > limit.max_daily:
                    return False
    return True
