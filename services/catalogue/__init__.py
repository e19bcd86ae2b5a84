"""A synthetic drug catalogue: what a product is, never what may be done with it."""

import tomllib
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.values import Fen, PositiveDecimal, ProductCode

__all__ = [
    "ChargeClass",
    "Control",
    "Form",
    "Kind",
    "Product",
    "Special",
    "product",
    "products",
]


class Kind(StrEnum):
    """Western, Chinese patent medicine, or a herbal piece."""

    WESTERN = "western"
    PATENT = "patent"
    HERBAL = "herbal"


class Form(StrEnum):
    """Dosage form."""

    TABLET = "tablet"
    CAPSULE = "capsule"
    POWDER = "powder"
    GRANULES = "granules"
    PELLETS = "pellets"
    ORAL_LIQUID = "oral liquid"
    INJECTION = "injection"
    CREAM = "cream"
    OINTMENT = "ointment"
    INHALER = "inhaler"
    EYE_DROPS = "eye drops"
    HERBAL_PIECE = "herbal piece"


class Control(StrEnum):
    """Special legal control."""

    NONE = "none"
    NARCOTIC = "narcotic"
    PSYCHOTROPIC_1 = "psychotropic_1"
    PSYCHOTROPIC_2 = "psychotropic_2"
    TOXIC = "toxic"
    RADIOACTIVE = "radioactive"
    PRECURSOR = "precursor"


class Special(StrEnum):
    """Kinds of product that the law names apart."""

    NONE = "none"
    VACCINE = "vaccine"
    BLOOD_PRODUCT = "blood_product"
    INSTITUTION_PREPARATION = "institution_preparation"
    FORMULA_GRANULES = "formula_granules"


class ChargeClass(StrEnum):
    """`chrgitm_lv` 甲, 乙, 丙: fully covered, first-self-pay, fully self-paid."""

    A = "A"
    B = "B"
    C = "C"


_ORAL = frozenset(
    {Form.TABLET, Form.CAPSULE, Form.POWDER, Form.GRANULES, Form.PELLETS, Form.ORAL_LIQUID}
)
_TOPICAL = frozenset({Form.CREAM, Form.OINTMENT, Form.EYE_DROPS})


class Product(BaseModel):
    """One pack of one drug. `units_per_pack` counts what a dose is written in (`unit`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_code: ProductCode
    generic_name: str
    inn: str
    ingredients: tuple[str, ...] = Field(default=(), description="INN; one unless a compound")
    atc: Annotated[str, Field(pattern=r"^[A-Z]\d{2}[A-Z]{2}\d{2}$")]
    kind: Kind = Kind.WESTERN
    form: Form
    strength: str
    units_per_pack: PositiveDecimal
    unit: str
    charge_class: ChargeClass
    default_price_fen: Fen
    trace_prefix: Annotated[str, Field(pattern=r"^\d{7}$")]
    cold_chain: bool = False
    antimicrobial: bool = False
    control: Control = Control.NONE
    special: Special = Special.NONE
    doping: bool = Field(default=False, description="anabolic agent or peptide hormone")
    everyday: bool = Field(default=False, description="what hospitals usually send online")

    @model_validator(mode="before")
    @classmethod
    def _single(cls, data: dict[str, object]) -> dict[str, object]:
        return {"ingredients": [data["inn"]], **data}

    @property
    def compound(self) -> bool:
        """More than one active ingredient."""
        return len(self.ingredients) > 1

    @property
    def herbal(self) -> bool:
        """A herbal piece, which has a prescription of its own."""
        return self.kind is Kind.HERBAL

    @property
    def oral(self) -> bool:
        """Swallowed."""
        return self.form in _ORAL

    @property
    def topical(self) -> bool:
        """Applied to skin or eye."""
        return self.form in _TOPICAL

    def packs_for(self, dose: Decimal, doses_per_day: Decimal, days: int) -> int:
        """The fewest packs that last `days`; `dose` in units taken each time."""
        units = dose * doses_per_day * days
        return int((units / self.units_per_pack).to_integral_value(ROUND_CEILING))


@cache
def products() -> Mapping[str, Product]:
    """The whole catalogue by product code. Raises ValueError when its data are wrong."""
    text = files(__package__).joinpath("products.toml").read_text(encoding="utf-8")
    rows = [Product.model_validate(row) for row in tomllib.loads(text)["product"]]
    by_code = {row.product_code: row for row in rows}
    if len(by_code) < len(rows) or len({row.trace_prefix for row in rows}) < len(rows):
        raise ValueError("the catalogue repeats a product code or a trace prefix")
    return MappingProxyType(by_code)


def product(product_code: str) -> Product | None:
    """The product of a code, None when the catalogue does not know it."""
    return products().get(product_code)
