"""A catalogue of any size for benchmarks: invented packs of the drugs that are known, by seed."""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from random import Random

from services.catalogue.book import Catalogue
from services.catalogue.codes import national_code
from services.catalogue.model import Content, Kind, Origin, Product, Special

__all__ = ["INSTRUCTIONS", "generated", "products_file"]

INSTRUCTIONS = 180_000
MAKERS = 400
PACKS = tuple(Decimal(factor) for factor in ("0.5", "1", "1", "1", "2", "3", "5"))
# Packs of one maker share an approval number.
PACKS_PER_APPROVAL = 3
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def generated(base: Catalogue, rows: int = INSTRUCTIONS, seed: int = 1) -> Catalogue:
    """The base and invented packs on top, `rows` products in all; same seed, same rows."""
    version = f"{base.version}.generated-{rows}-{seed}"
    packs = _rows(base, rows, seed)
    facts = (base.substances.values(), base.diagnoses.values(), base.spellings)
    return Catalogue.of(version, packs, *facts)


def products_file(products: Catalogue) -> bytes:
    """The products as the file that the catalogue is read from."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for item in products.products.values():
        writer.writerow([_cell(item, name) for name in _COLUMNS])
    return out.getvalue().encode("utf-8")


def _rows(base: Catalogue, rows: int, seed: int) -> Iterator[Product]:
    originals = list(base.products.values())
    yield from originals[:rows]
    models = [item for item in originals if item.special is Special.NONE]
    random = Random(seed)
    makers = [sys.intern(f"Synthetic maker {number:03d}") for number in range(MAKERS)]
    sizes: dict[Decimal, Decimal] = {}
    for number in range(max(0, rows - len(originals))):
        model = random.choice(models)
        size = model.units_per_pack * random.choice(PACKS)
        yield replace(
            model,
            product_code=_product_code(model, number),
            approval_number=_approval(model, number // PACKS_PER_APPROVAL),
            standard_code="" if model.herbal else national_code(f"8{number:09d}"),
            trace_prefix=f"{1_000_000 + number}",
            units_per_pack=sizes.setdefault(size, size),
            maker=random.choice(makers),
            default_price_fen=random.randrange(300, 20_000),
            everyday=False,
            origin=Origin.SYNTHETIC,
        )


def _product_code(model: Product, number: int) -> str:
    name = _base36(number, 4)
    if model.kind is Kind.WESTERN:
        return f"{model.product_code[:6]}{name}A0010001SYNG0"
    if model.kind is Kind.PATENT:
        return f"ZV90AA0{name}0001SYNG0"
    return f"TSYNG{name}"


def _approval(model: Product, number: int) -> str:
    start = model.approval_number[:5]
    return f"{start}{90_000_000 + number:08d}" if start else ""


def _base36(number: int, width: int) -> str:
    text = ""
    for _ in range(width):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


_COLUMNS = (
    "product_code",
    "approval_number",
    "standard_code",
    "generic_name",
    "initials",
    "name_en",
    "inn",
    "atc",
    "kind",
    "form",
    "strength",
    "contents",
    "units_per_pack",
    "unit",
    "route",
    "storage",
    "sale",
    "charge_class",
    "default_price_fen",
    "trace_prefix",
    "maker",
    "control",
    "special",
    "antimicrobial",
    "doping",
    "everyday",
    "origin",
)


def _cell(item: Product, name: str) -> str:
    value = getattr(item, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "; ".join(_content(part) for part in value)
    return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)


def _content(part: Content) -> str:
    if part.amount is None:
        return f"{part.substance}=?"
    return f"{part.substance}={part.amount.normalize():f} {part.unit}"
