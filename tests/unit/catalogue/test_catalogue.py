"""The catalogue is well formed, unmistakably invented, and holds what the rules speak of."""

from decimal import Decimal

import pytest

from services.catalogue import Control, Form, Kind, product, products


def by_inn(inn: str, form: Form | None = None) -> list[str]:
    rows = products().values()
    return [p.product_code for p in rows if p.inn == inn and form in (None, p.form)]


def test_every_code_is_invented_and_has_the_national_shape() -> None:
    lengths = {Kind.WESTERN: 23, Kind.PATENT: 20}
    for code, item in products().items():
        assert "SYNT" in code
        assert len(code) == lengths.get(item.kind, len(code))


def test_an_unknown_code_is_none() -> None:
    assert product("XC08CAZ999A0010001SYNTH") is None


@pytest.mark.parametrize(
    ("inn", "form"),
    [
        ("warfarin", Form.TABLET),
        ("insulin glargine", Form.INJECTION),
        ("heparin", Form.INJECTION),
        ("fusidic acid", Form.CREAM),
        ("fusidic acid", Form.TABLET),
        ("compound mifepristone", Form.TABLET),
        ("azithromycin", Form.TABLET),
        ("rifampicin", Form.CAPSULE),
        ("metformin", Form.TABLET),
    ],
)
def test_products_the_rules_speak_of_exist(inn: str, form: Form) -> None:
    assert len(by_inn(inn, form)) >= 1


def test_compounds_name_their_ingredients() -> None:
    cough = next(p for p in products().values() if p.inn == "compound methoxyphenamine")
    assert cough.compound
    assert "aminophylline" in cough.ingredients


def test_a_single_drug_is_its_own_ingredient() -> None:
    warfarin = next(p for p in products().values() if p.inn == "warfarin")
    assert warfarin.ingredients == ("warfarin",)
    assert not warfarin.compound


def test_everyday_products_are_enough_for_ordinary_orders() -> None:
    everyday = [p for p in products().values() if p.everyday]
    assert len(everyday) >= 40
    assert sum(p.cold_chain for p in everyday) >= 3
    assert all(p.control is Control.NONE for p in everyday)


@pytest.mark.parametrize(
    ("dose", "rate", "days", "packs"), [(1, 2, 7, 1), (1, 1, 29, 2), (2, 3, 14, 3)]
)
def test_packs_for_rounds_up_to_whole_packs(dose: int, rate: int, days: int, packs: int) -> None:
    amlodipine = next(p for p in products().values() if p.inn == "amlodipine")
    assert amlodipine.packs_for(Decimal(dose), Decimal(rate), days) == packs
