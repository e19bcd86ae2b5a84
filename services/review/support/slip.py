"""The patient's guidance slip: how to take each drug, what to avoid, where to keep it."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from schemas.prescription import PrescribedLine, PrescriptionSheet
from services.catalogue import Catalogue, Product
from services.catalogue.instruction import STORAGE

ASK_ZH = "如有疑问请咨询药师；本单不代替医嘱与药品说明书"
ASK_EN = "Ask your pharmacist; this slip replaces neither the doctor's order nor the label"
UNKNOWN_ZH = "未知药品：请按药品说明书与医嘱使用"
UNKNOWN_EN = "unknown drug: follow its label and the doctor's order"


def slip(catalogue: Catalogue, sheets: Iterable[PrescriptionSheet]) -> dict[str, Any]:
    """One entry a line of these prescriptions, in both languages."""
    lines = [line for sheet in sheets for line in sheet.lines]
    return {
        "catalogue": catalogue.version,
        "lines": [_line(catalogue, line) for line in lines],
        "note": {"zh": ASK_ZH, "en": ASK_EN},
    }


def _line(catalogue: Catalogue, line: PrescribedLine) -> dict[str, Any]:
    item = catalogue.products.get(line.product_code)
    entry: dict[str, Any] = {"product_code": line.product_code, "generic_name": line.generic_name}
    if item is None:
        return {**entry, "known": False, "take": [{"zh": UNKNOWN_ZH, "en": UNKNOWN_EN}]}
    zh, en = STORAGE[item.storage]
    return {
        **entry,
        "known": True,
        "strength": item.strength,
        "take": [_taking(line, item), *_advice(catalogue, item, "take")],
        "avoid": _advice(catalogue, item, "avoid"),
        "storage": {"zh": zh, "en": en},
    }


def _taking(line: PrescribedLine, item: Product) -> dict[str, str]:
    dose = f"{line.dose.normalize():f}"
    unit, route = _said("unit", item.unit), _said("route", line.route)
    often = _said("frequency", line.frequency)
    return {
        "zh": f"{route[0]}，每次 {dose} {unit[0]}，{often[0]}，共 {line.days} 天",
        "en": f"{dose} {unit[1]} {route[1]}, {often[1]}, for {line.days} days",
    }


def _advice(catalogue: Catalogue, item: Product, aspect: str) -> list[dict[str, str]]:
    facts = {fact for _, fact in catalogue.guidance(item) if fact.aspect == aspect}
    return [
        {
            "zh": fact.text_zh,
            "en": fact.text_en,
            "source": fact.source.title,
            "standing": fact.standing,
        }
        for fact in sorted(facts, key=lambda fact: fact.text_en)
    ]


def _said(kind: str, code: str) -> tuple[str, str]:
    """The words of a code; a code without words is shown as it is, never guessed."""
    zh, en = words()[kind].get(code, (code, code))
    return zh, en


@cache
def words() -> Mapping[str, Mapping[str, list[str]]]:
    """The tables of words by kind and code."""
    text = files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
