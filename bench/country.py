"""Writes the files of an invented country, to be imported: packs of cities, pharmacies, stock.

The pharmacies are those of `bench geo`. A product has three last days and up to 40 packs.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import orjson

from bench.geo import CITIES, NUMBERS, PHARMACIES, PRODUCTS, bodies
from services.catalogue import products
from services.commands.days import arguments

PACK = """[city]
code = "{code}"
name = "Synthetic city {code}"
version = "1.0.0"
timezone = "Asia/Shanghai"
datum = "WGS-84"
payer_area = "990000"

[[tier]]
tier = "30"
hours = ["1-7 08:00-21:00"]

[[tier]]
tier = "60"

[[tier]]
tier = "citywide"

[[speed]]
hours = "0-24"
km_h = 18.0
"""
LAST_DAYS = ("2027-03-31", "2027-08-31", "2028-01-31")
PACKS_MAX = 40
HEADER = "pharmacy_id,product_code,count,expires_on\n"


def main(argv: Sequence[str]) -> int:
    """0 when all is written."""
    parser = argparse.ArgumentParser(prog="yaoda bench country", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--pharmacies", type=arguments.count, default=PHARMACIES)
    parser.add_argument("--cities", type=arguments.count, default=CITIES)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(list(argv))
    write(asked.folder, asked.seed, asked.pharmacies, asked.cities)
    return 0


def write(folder: Path, seed: int, pharmacies: int, cities: int) -> None:
    """`cities/*/city.toml`, `shops.ndjson` and `stock.csv`."""
    codes = sorted(products())[:PRODUCTS]
    dice = Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "shops.ndjson").open("wb") as shops,
        (folder / "stock.csv").open("w", encoding="utf-8") as stock,
    ):
        stock.write(HEADER)
        for number in range(cities):
            _pack(folder / "cities", f"{990_000 + number}")
            for shop in _shops(seed, number, pharmacies // cities, codes):
                shops.write(orjson.dumps(shop) + b"\n")
                stock.writelines(_shelf(dice, shop["pharmacy_id"], codes))


def _pack(folder: Path, code: str) -> None:
    (folder / code).mkdir(parents=True, exist_ok=True)
    (folder / code / "city.toml").write_text(PACK.format(code=code))


def _shops(seed: int, city: int, count: int, codes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for body in bodies(seed, city, count):
        told = orjson.loads(body)
        prices = {codes[NUMBERS[name]]: fen for name, fen in told["prices"].items()}
        kept = {k: v for k, v in told.items() if k not in ("tenant_id", "timezone", "point")}
        yield {**kept, **told["point"], "datum": "WGS-84", "prices": prices}


def _shelf(dice: Random, pharmacy_id: str, codes: Sequence[str]) -> Iterator[str]:
    for code in codes:
        packs, last = dice.randrange(PACKS_MAX + 1), dice.choice(LAST_DAYS)
        yield f"{pharmacy_id},{code},{packs},{last}\n"
