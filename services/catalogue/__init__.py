"""The drug catalogue: products, and what is known of their substances, with its source."""

import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from services.catalogue.book import Catalogue, Named
from services.catalogue.model import (
    Action,
    Caution,
    ChargeClass,
    Concern,
    Content,
    Control,
    Ddd,
    Diagnosis,
    DoseLimit,
    Dosing,
    Fact,
    Form,
    Grade,
    Guidance,
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
from services.catalogue.reading import (
    Reading,
    WrongCatalogue,
    contents,
    read,
    read_folder,
    version_of,
)
from services.catalogue.table import Flaw

# A folder with files of one's own; without it the sandbox's catalogue is used.
FOLDER_VARIABLE = "YAODA_CATALOGUE"

__all__ = [
    "Action",
    "Catalogue",
    "Caution",
    "ChargeClass",
    "Concern",
    "Content",
    "Control",
    "Ddd",
    "Diagnosis",
    "DoseLimit",
    "Dosing",
    "Fact",
    "Flaw",
    "Form",
    "Grade",
    "Guidance",
    "Indication",
    "Kind",
    "Named",
    "Origin",
    "Product",
    "Reading",
    "SaleClass",
    "Source",
    "Special",
    "Standing",
    "Storage",
    "Substance",
    "WrongCatalogue",
    "catalogue",
    "content_of",
    "product",
    "products",
    "read",
    "read_folder",
    "version_of",
]


@cache
def catalogue() -> Catalogue:
    """The catalogue of this process. Raises WrongCatalogue when its files have flaws."""
    return read(content_of()).catalogue


def content_of() -> Mapping[str, bytes]:
    """The files of this process's catalogue by name, as they are now."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return contents(Path(chosen) if chosen else files(__package__).joinpath("data"))


def products() -> Mapping[str, Product]:
    """All products by product code. Raises WrongCatalogue when the files have flaws."""
    return catalogue().products


def product(product_code: str) -> Product | None:
    """The product of a code, None when the catalogue does not know it."""
    return catalogue().products.get(product_code)
