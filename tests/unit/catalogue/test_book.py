"""Names lead to what a drug is made of; a local use has only its own codes and facts."""

from dataclasses import replace
from decimal import Decimal

import pytest

from services.catalogue import Catalogue, Concern, Form, Kind, Origin, Product, Standing, catalogue
from services.catalogue.search import Search

BOOK = catalogue()
SEARCH = Search(BOOK)


def product(inn: str, form: Form) -> Product:
    return next(p for p in BOOK.products.values() if (p.inn, p.form) == (inn, form))


def test_there_is_as_much_as_was_promised() -> None:
    coded = [s for s in BOOK.substances.values() if s.atc and s.origin is Origin.REAL]
    assert len(coded) >= 250
    assert len(BOOK) >= 600
    assert all(p.origin is Origin.SYNTHETIC for p in BOOK.products.values())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("amlodipine", "C08CA01"),
        ("Amlodipine", "C08CA01"),
        ("氨氯地平", "C08CA01"),
        ("苯磺酸氨氯地平片", "C08CA01"),
        ("C08CA01", "C08CA01"),
        ("acetaminophen", "N02BE01"),
        ("阿司匹林", "B01AC06"),
        ("普瑞巴林", "N02BF02"),
    ],
)
def test_a_name_leads_to_its_codes(name: str, code: str) -> None:
    found = BOOK.named(name)
    assert found is not None
    assert code in found.atc


@pytest.mark.parametrize(
    ("stem", "whole", "inside"),
    [
        ("感冒灵", "感冒灵颗粒", "paracetamol"),
        ("复方氨酚烷胺", "复方氨酚烷胺片", "amantadine"),
        ("维C银翘", "维C银翘片", "chlorphenamine"),
    ],
)
def test_a_compound_is_known_without_its_form(stem: str, whole: str, inside: str) -> None:
    named = BOOK.named(stem)
    assert named is not None
    assert inside in {item.key for item in named.substances}
    assert {product.generic_name for product in BOOK.called(stem)} == {whole}


def test_a_name_without_its_form_that_fits_two_compositions_names_neither() -> None:
    (granules,) = BOOK.called("感冒灵颗粒")
    tablets = replace(
        granules,
        product_code="T1",
        generic_name="感冒灵片",
        ingredients=granules.ingredients[:1],
    )
    both = Catalogue.of("t", [granules, tablets], BOOK.substances.values())
    assert both.called("感冒灵") == ()
    assert both.named("感冒灵") is None
    assert both.called("感冒灵片") == (tablets,)


@pytest.mark.parametrize("name", ["", " ", "unobtainium", "Q99ZZ99", "氨氯地", "8690"])
def test_an_unknown_name_is_none(name: str) -> None:
    assert BOOK.named(name) is None


@pytest.mark.parametrize(
    ("patent", "hidden"),
    [
        ("感冒灵颗粒", {"paracetamol", "chlorphenamine", "caffeine"}),
        ("消渴丸", {"glibenclamide"}),
        ("珍菊降压片", {"clonidine", "hydrochlorothiazide"}),
        ("维C银翘片", {"paracetamol", "chlorphenamine", "ascorbic acid"}),
    ],
)
def test_patent_medicines_are_seen_through(patent: str, hidden: set[str]) -> None:
    found = BOOK.named(patent)
    assert found is not None
    assert hidden <= {s.key for s in found.substances}


@pytest.mark.parametrize(
    ("inn", "form", "codes"),
    [
        ("ketoconazole", Form.CREAM, {"D01AC08"}),
        ("acetylsalicylic acid", Form.MODIFIED_TABLET, {"B01AC06", "N02BA01"}),
        ("diclofenac", Form.GEL, {"M02AA15"}),
        ("budesonide", Form.INHALER, {"R03BA02"}),
        ("hydrocortisone", Form.TABLET, {"H02AB09", "A07EA02"}),
    ],
)
def test_codes_are_those_of_the_way_in(inn: str, form: Form, codes: set[str]) -> None:
    assert BOOK.atc_codes(product(inn, form)) == codes


def test_a_gel_has_none_of_the_tablets_cautions() -> None:
    assert BOOK.cautions(product("diclofenac", Form.MODIFIED_TABLET))
    assert not BOOK.cautions(product("diclofenac", Form.GEL))


def test_the_renal_limits_of_metformin_leave_no_hole() -> None:
    metformin = BOOK.substances["metformin"]
    renal = [c for c in metformin.cautions if c.concern is Concern.RENAL]
    values = map(Decimal, (29, 30, 44, 45, 60))
    said = [[c.action.value for c in renal if c.covers(value)] for value in values]
    assert said == [["contraindicated"], ["do_not_start"], ["do_not_start"], ["monitor"], []]


def test_the_same_drug_is_generic_name_form_and_strength() -> None:
    amlodipine = BOOK.products["XC08CAZ001A0010001SYNTH"]
    fills = BOOK.same_drug(amlodipine)
    assert len({p.maker for p in fills}) == 2
    assert {(p.generic_name, p.form, p.strength) for p in fills} == {amlodipine.same_drug}


def test_every_code_leads_to_its_product() -> None:
    for item in BOOK.products.values():
        assert BOOK.product(item.product_code) is item
        if item.standard_code:
            assert BOOK.product(item.standard_code) is item


def test_all_ingredients_are_known_and_all_facts_have_a_source() -> None:
    for item in BOOK.products.values():
        assert len(BOOK.ingredients(item)) == len(item.ingredients) > 0
    for substance in BOOK.substances.values():
        facts = (*substance.ddds, *substance.dose_limits, *substance.cautions, *substance.dosings)
        assert all(fact.source.title for fact in facts)
        assert all(d.standing is Standing.VERIFIED for d in substance.ddds)
        assert all(d.atc in substance.atc for d in substance.ddds)


def test_western_medicines_alone_have_codes_of_the_atc() -> None:
    assert all(p.kind is Kind.WESTERN for p in BOOK.products.values() if p.atc)


@pytest.mark.parametrize(
    ("query", "generic"),
    [
        ("氨氯地平", "苯磺酸氨氯地平片"),
        ("aldp", "苯磺酸氨氯地平片"),
        ("bhsaldp", "苯磺酸氨氯地平片"),
        ("AMLOD", "苯磺酸氨氯地平片"),
        ("布洛芬 混悬", "布洛芬混悬液"),
        ("ibuprofen 混悬", "布洛芬混悬液"),
        ("扑热息痛 栓", "对乙酰氨基酚栓"),
        ("gml", "感冒灵颗粒"),
    ],
)
def test_search_finds(query: str, generic: str) -> None:
    assert generic in [hit.generic_name for hit in SEARCH.find(query, 10)]


def test_search_reads_what_the_instruction_says() -> None:
    assert {"zolpidem", "estazolam"} <= {hit.inn for hit in SEARCH.find("失眠", 200)}
    assert "metformin" in {hit.inn for hit in SEARCH.find("type 2 diabetes", 200)}


@pytest.mark.parametrize("query", ["", "   ", "|", "\n", "zzzz", "x" * 10_000, "%_'\"\\"])
def test_search_bears_anything(query: str) -> None:
    assert SEARCH.find(query) == []


def test_search_offers_at_most_what_was_asked() -> None:
    assert len(SEARCH.find("片", 3)) == 3
