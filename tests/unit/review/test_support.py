"""Decision support offers choices with sources, says what it could not verify, and never hides."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from schemas.prescription import PrescriptionSheet
from services.catalogue import catalogue
from services.kit.decision import Actor
from services.kit.http import Door, create_app
from services.kit.ids import new_id
from services.review import support_api
from services.review.rules import pack
from services.review.support import choices, interactions, slip
from tests.unit.prescription.examples import line, sheet

BOOK = catalogue()
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


def pair(*names: str) -> dict[str, Any]:
    found: dict[str, Any] = interactions.answered(pack(), BOOK, names)["pairs"][0]
    return found


@pytest.mark.parametrize(
    ("one", "other", "rule"),
    [
        ("辛伐他汀", "克拉霉素", "ONC-11"),
        ("clarithromycin", "simvastatin", "ONC-11"),
        ("J02AC02", "辛伐他汀片", "ONC-11"),
        ("替扎尼定", "ciprofloxacin", "ONC-13"),
        ("escitalopram", "sotalol", "ONC-08"),
    ],
)
def test_a_pair_that_must_interrupt_is_found_in_any_order(one: str, other: str, rule: str) -> None:
    found = pair(one, other)
    assert found["status"] == "interaction"
    first = found["interactions"][0]
    assert (first["rule_id"], first["interruptive"]) == (rule, True)
    assert first["source"]
    assert first["mechanism"]["zh"]


def test_a_low_priority_pair_is_said_and_does_not_interrupt() -> None:
    found = pair("clopidogrel", "aspirin")
    assert found["status"] == "interaction"
    assert not any(known["interruptive"] for known in found["interactions"])


def test_a_cream_does_not_interact_as_a_tablet_would() -> None:
    assert pair("ketoconazole", "simvastatin")["status"] == "interaction"
    assert pair("酮康唑乳膏", "simvastatin")["status"] == "none_known"


def test_nothing_known_is_not_called_safe() -> None:
    found = pair("metformin", "amlodipine")
    assert found["status"] == "none_known"
    assert "no known interaction in our sources" in found["text_en"]
    assert "safe" not in found["text_en"]


@pytest.mark.parametrize("other", ["unobtainium", "当归"])
def test_what_the_sources_cannot_know_could_not_be_verified(other: str) -> None:
    assert pair("warfarin", other)["status"] == "could_not_verify"


def test_the_same_ingredient_inside_a_patent_medicine_is_seen() -> None:
    found = pair("感冒灵颗粒", "对乙酰氨基酚片")
    assert (found["status"], found["shared_ingredients"]) == ("duplicate", ["paracetamol"])


def dosing(name: str, **known: Any) -> dict[str, Any]:
    found = BOOK.named(name)
    assert found is not None
    return choices.dosing(BOOK, found.substances, "oral", choices.Person(**known))


@pytest.mark.parametrize(
    ("egfr", "against"), [(29, True), (30, True), (44, True), (45, False), (60, False)]
)
def test_kidneys_speak_against_metformin(egfr: int, against: bool) -> None:
    answer = dosing("metformin", age_months=600, egfr=Decimal(egfr))
    assert {choice["advised_against"] for choice in answer["choices"]} == {against}


def test_what_is_missing_is_said() -> None:
    missing = dosing("metformin")["could_not_verify"]
    assert {"age", "egfr", "other diseases"} <= set(missing)
    assert "dosing of digoxin" in dosing("digoxin", age_months=600)["could_not_verify"]


def test_pregnancy_of_unknown_week_counts_as_any() -> None:
    for known in ({"pregnant": True}, {"pregnancy_weeks": Decimal(8)}):
        answer = dosing("enalapril", age_months=360, **known)
        assert all(choice["advised_against"] for choice in answer["choices"])
    answer = dosing("enalapril", age_months=360, pregnant=False)
    assert not any(choice["advised_against"] for choice in answer["choices"])


def test_a_childs_dose_follows_its_weight() -> None:
    answer = dosing("paracetamol", age_months=60, weight_kg=Decimal(18))
    assert [c["dose_for_weight"] for c in answer["choices"]] == [["180 mg", "270 mg"]]


def test_a_diagnosis_has_options_with_sources() -> None:
    answer = choices.options(BOOK, "I10")
    assert {"amlodipine", "losartan"} <= {option["inn"] for option in answer["options"]}
    for option in answer["options"]:
        assert option["drugs"]
        assert all(usual["source"] and usual["standing"] for usual in option["dosing"])
    assert choices.options(BOOK, "Z99")["options"] == []


def written(**changes: Any) -> PrescriptionSheet:
    first = PrescriptionSheet.model_validate(sheet(1, line("amlodipine")))
    return first.model_copy(update={"lines": (first.lines[0].model_copy(update=changes),)})


def test_the_slip_says_how_to_take_and_keep_it_in_both_languages() -> None:
    insulin = written(product_code="XA10AEZ049B0010001SYNTH", route="4", frequency="11", days=7)
    entry = slip.slip(BOOK, [insulin])["lines"][0]
    assert "每日 1 次" in entry["take"][0]["zh"]
    assert "once a day" in entry["take"][0]["en"]
    assert "2-8 °C" in entry["storage"]["en"]
    assert any("low blood sugar" in item["en"] for item in entry["avoid"])


def test_codes_without_words_are_shown_as_they_are() -> None:
    entry = slip.slip(BOOK, [written(frequency="45", route="9")])["lines"][0]
    assert "45" in entry["take"][0]["en"]


def test_an_unknown_drug_on_a_slip_is_said_to_be_unknown() -> None:
    entry = slip.slip(BOOK, [written(product_code="XC08CAZ999A0010001SYNTH")])["lines"][0]
    assert not entry["known"]


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    async def still(_: Door) -> datetime:
        return NOW

    actor = Actor(tenant_id=new_id(), kind="hospital")
    tenants = SimpleNamespace(by_token=lambda token: actor if token == "good" else None)
    app = create_app("review", [support_api.router])
    app.state.inside = SimpleNamespace(tenants=tenants)
    monkeypatch.setattr(Door, "clock_now", still)
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": "Bearer good"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://review", headers=headers
    ) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/drugs?q=aldp", 200),
        ("/v1/drugs?q=", 422),
        ("/v1/drugs/XC08CAZ001A0010001SYNTH", 200),
        ("/v1/drugs/unobtainium", 404),
        ("/v1/diagnoses/I10/options", 200),
        ("/v1/diagnoses/hypertension/options", 422),
        ("/v1/drugs/二甲双胍/dosing?age=60&egfr=29", 200),
        ("/v1/drugs/metformin/dosing?age=-1", 422),
        ("/v1/drugs/metformin/dosing?egfr=NaN", 422),
        ("/v1/drugs/enalapril/dosing?pregnancy=12", 200),
        ("/v1/drugs/enalapril/dosing?pregnancy=yes", 200),
        ("/v1/drugs/enalapril/dosing?pregnancy=99", 422),
        ("/v1/drugs/enalapril/dosing?pregnancy=perhaps", 422),
        ("/v1/drugs/unobtainium/dosing", 404),
    ],
)
async def test_questions_are_answered_or_refused(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["code"]


@pytest.mark.parametrize("body", [{"drugs": ["warfarin"]}, {"drugs": []}, {"drug": "x"}, []])
async def test_a_question_of_less_than_two_is_refused(client: httpx.AsyncClient, body: Any) -> None:
    assert (await client.post("/v1/drugs/interactions", json=body)).status_code == 422


async def test_a_draft_is_judged_without_an_order(client: httpx.AsyncClient) -> None:
    draft = {"lines": ["simvastatin", "clarithromycin"], "diagnoses": ["E78"]}
    answer = (await client.post("/v1/review/precheck", json=draft)).json()
    assert answer["order_id"] is None
    found = {finding["rule"] for finding in answer["prescriptions"][0]["findings"]}
    assert "ONC-11" in found


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff"])
async def test_a_draft_that_is_none_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await client.post("/v1/review/precheck", content=body)).status_code == 422


async def test_strangers_get_no_answers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/drugs?q=aldp", headers={"Authorization": "Bearer bad"})
    assert answer.status_code == 401
