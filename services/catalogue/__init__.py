"""The drug catalogue: products, and what is known of their substances, with its source."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from services.catalogue.book import Catalogue, Named
from services.catalogue.model import (
    Action,
    Caution,
    ChargeClass,
    Concern,
    Content,
    Control,
    Ddd,
    DoseLimit,
    Dosing,
    Form,
    Grade,
    Indication,
    Kind,
    Origin,
    Product,
    SaleClass,
    Source,
    Special,
    Standing,
    Storage,
    Substance,
)

__all__ = [
    "Action",
    "Catalogue",
    "Caution",
    "ChargeClass",
    "Concern",
    "Content",
    "Control",
    "Ddd",
    "DoseLimit",
    "Dosing",
    "Form",
    "Grade",
    "Indication",
    "Kind",
    "Named",
    "Origin",
    "Product",
    "SaleClass",
    "Source",
    "Special",
    "Standing",
    "Storage",
    "Substance",
    "catalogue",
    "product",
    "products",
]


@cache
def catalogue() -> Catalogue:
    """The catalogue of this process. Raises ValueError when its data are wrong."""
    text = files(__package__).joinpath("products.toml").read_text(encoding="utf-8")
    rows = [_product(row) for row in tomllib.loads(text)["product"]]
    return Catalogue.of("demo", rows, ())


def products() -> Mapping[str, Product]:
    """The whole catalogue by product code. Raises ValueError when its data are wrong."""
    return catalogue().products


def product(product_code: str) -> Product | None:
    """The product of a code, None when the catalogue does not know it."""
    return catalogue().products.get(product_code)


def _product(row: dict[str, Any]) -> Product:
    cold = row.pop("cold_chain", False)
    fields = {
        **row,
        "ingredients": tuple(row.get("ingredients", [row["inn"]])),
        "kind": Kind(row.get("kind", "western")),
        "form": Form(row["form"]),
        "units_per_pack": Decimal(row["units_per_pack"]),
        "charge_class": ChargeClass(row["charge_class"]),
        "control": Control(row.get("control", "none")),
        "special": Special(row.get("special", "none")),
        "storage": Storage.COLD if cold else Storage.ROOM,
    }
    return Product(**fields)
