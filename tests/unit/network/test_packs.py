"""Packs of cities: what is shipped is sound, and every fault is named by file, line and reason."""

import json
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from schemas.values import Tier
from services.claim.api import PayerAway
from services.commands import city, client
from services.network import packs

SOUND = (packs.INSTALLED / "990101" / packs.FILE).read_text()


def written(folder: Path, text: str) -> Path:
    """A folder with one pack of this text."""
    (folder / "one").mkdir(parents=True)
    (folder / "one" / packs.FILE).write_text(text, encoding="utf-8")
    return folder


def test_the_packs_of_the_installation_are_sound() -> None:
    found = packs.read(packs.INSTALLED, city.has_payer)
    assert found.flaws == []
    rivers, hills = found.cities.values()
    assert rivers.rules is not None
    assert rivers.rules.pack == "990101@1.4.0"
    assert [area.name for area in rivers.rules.areas] == ["North bank", "South bank"]
    assert len(rivers.rules.tiers[0].hours) == 7
    assert rivers.rules.tiers[2].minutes == 45
    assert hills.tiers == (Tier.MIN_60, Tier.CITYWIDE)


def test_a_tier_of_the_night_names_who_is_on_then(tmp_path: Path) -> None:
    text = SOUND.replace("1-6 08:00-22:00", "1-6 08:00-23:30", 1)
    assert packs.read(written(tmp_path / "staffed", text)).flaws == []
    lonely = text.replace('who = "couriers"', 'who = "payer"')
    (flaw,) = [
        one
        for one in packs.read(written(tmp_path / "lonely", lonely)).flaws
        if one.code == "night_unstaffed"
    ]
    assert "couriers" in flaw.reason
    assert lonely.splitlines()[flaw.line - 1].startswith("hours")


def test_how_far_a_patient_is_asked_to_go_is_as_the_pack_says(tmp_path: Path) -> None:
    near = written(tmp_path, SOUND.replace("reach_m = 3000", "reach_m = 800"))
    (command,) = packs.read(near).cities.values()
    assert command.rules is not None
    reach = {rule.tier: rule.reach_m for rule in command.rules.tiers}
    assert reach[Tier.PICK_UP] == 800
    assert reach[Tier.MIN_30] is None


def test_a_planned_factor_stands_in_the_time_of_its_city() -> None:
    rules = packs.read(packs.INSTALLED).cities[packs.INSTALLED / "990101" / packs.FILE].rules
    assert rules is not None
    (eve,) = rules.factors
    assert eve.from_at == datetime(2026, 2, 16, 7, tzinfo=UTC)
    assert eve.not_offered == (Tier.MIN_30,)
    assert [step.reach_m for step in rules.pressure] == [2500, 1500]


# What is changed in a sound pack, the code of the fault, a line that must be named, and words.
BROKEN = [
    ('code = "990101"', 'code = "Rivers"', "string_pattern_mismatch", 'code = "Rivers"', "city"),
    ('timezone = "Asia/Shanghai"', 'timezone = "Mars/Base"', "unknown_timezone", "time", "Mars"),
    ('payer_area = "990000"', 'payer_area = "110000"', "unknown_code", "payer_area", "110000"),
    ('datum = "WGS-84"', 'datum = "BD-09"', "unknown_datum", "datum", "GCJ-02"),
    ('tier = "citywide"', 'tier = "90"', "enum", 'tier = "90"', "tier"),
    ("minutes = 45", "minutes = 3", "greater_than_equal", "minutes", "10"),
    ("minutes = 45", "colour = 3", "unknown_key", "colour", "colour"),
    ("1-6 08:00-22:00", "1-6 22:00-08:00", "bad_hours", "1-6 22:00", "later"),
    ("1-6 08:00-22:00", "1-6 08:00-25:00", "bad_hours", "25:00", "hour"),
    ("1-6 08:00-22:00", "6-1 08:00-22:00", "bad_hours", "6-1", "no day"),
    ("7 09:00-21:00", "6 09:00-21:00", "bad_hours", "1-6 08:00", "overlaps"),
    ('hours = "0-7"', 'hours = "night"', "bad_hours", "night", "full hours"),
    ('hours = "7-10"', 'hours = "6-10"', "overlap", "6-10", "hour 6"),
    ("km_h = 15.0", "km_h = -1", "greater_than", "km_h = -1", "0"),
    ("[121.620, 31.235], [121.620, 31.400]", "[121.620, 31.400], [121.620, 31.235]",
     "bad_area", "ring", "not simple"),
    ("[121.300, 31.235], [121.620, 31.235]", "[31.235, 121.300], [121.620, 31.235]",
     "bad_area", "ring", "give (lon, lat)"),
    ("31.235], [121.300, 31.235], [121.300, 31.050]", "31.3], [121.300, 31.3], [121.300, 31.050]",
     "overlap", "ring", "North bank"),
    ("2026-02-16T15", "2026-02-17T15", "never", "until", "before it begins"),
    ("2026-02-17T09:00:00", '"noon"', "bad_moment", "until", "until is a moment"),
    ("speed_percent = 70", "speed_percent = 5", "greater_than_equal", "speed_percent", "10"),
    ("2026-02-17T09:00:00", "2027-02-17T09:00:00", "too_long", "until", "60 days"),
    ('who = "payer"', 'who = "postmen"', "unknown_staff", 'who = "postmen"', "reviewers"),
    ('who = "payer"', 'who = "reviewers"', "duplicate_staff", 'who = "reviewers"', "twice"),
    ("1-7 06:00-23:59", "1-7 23:00-06:00", "bad_hours", "23:00-06:00", "later"),
    ("under_way = 700", "under_way = 300", "not_rising", "under_way = 300", "rise"),
    ("reach_m = 1500", "reach_m = 2600", "eased", "reach_m = 2600", "more pressure"),
    ("03:30-03:40", "3:30", "bad_hours", 'hours = "3:30"', "23:50-00:20"),
    ("03:30-03:40", "03:30-24:10", "bad_hours", "24:10", "hour"),
    ("03:30-03:40", "03:30-03:30", "bad_hours", "03:30-03:30", "always away"),
    ("from = 2020-01-01", "from = 2020-01-01T00:00:00", "bad_day", "from", "a day"),
    ("from = 2020-01-01", "from = 2020-01-01\nuntil = 2019-01-01", "never", "until", "begins"),
    ('payer_area = "990000"\n', "", "payer_missing", "[[payer_away]]", "payer_area"),
    ("[[speed]]", "[[weather]]", "unknown_section", "", "weather"),
    ("[city]", "[city", "not_toml", "[city", "line 2"),
]  # fmt: skip


@pytest.mark.parametrize(("sound", "broken", "code", "line", "words"), BROKEN)
def test_a_fault_is_named_by_file_line_and_reason(
    tmp_path: Path, sound: str, broken: str, code: str, line: str, words: str
) -> None:
    assert sound in SOUND
    text = SOUND.replace(sound, broken, 1)
    found = packs.read(written(tmp_path, text), city.has_payer)
    assert found.cities == {}
    flaw = next(item for item in found.flaws if item.code == code)
    assert words in flaw.reason
    assert flaw.file == tmp_path / "one" / packs.FILE
    assert line in text.splitlines()[flaw.line - 1] if line else True


def test_one_city_stands_once_and_an_empty_folder_is_said(tmp_path: Path) -> None:
    written(tmp_path / "a", SOUND)
    both = tmp_path / "both"
    for name in ("x", "y"):
        (both / name).mkdir(parents=True)
        (both / name / packs.FILE).write_text(SOUND)
    assert [flaw.code for flaw in packs.read(both).flaws] == ["duplicate_city"]
    (tmp_path / "none").mkdir()
    assert [flaw.code for flaw in packs.read(tmp_path / "none").flaws] == ["no_pack"]


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert city.main(["check"]) == 0
    assert "990101 Synthetic city of rivers" in capsys.readouterr().out
    assert city.main(["check", str(written(tmp_path, SOUND.replace("km_h", "kmh", 1)))]) == 1
    assert "unknown_key" in capsys.readouterr().err


def test_loading_tells_the_network_of_the_city_and_claim_of_its_payers_hours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={})

    def connect(home: Path) -> httpx.Client:
        return httpx.Client(base_url="http://here", transport=httpx.MockTransport(answer))

    monkeypatch.setattr(client, "connect", connect)
    assert city.main(["load", str(packs.INSTALLED), "--home", str(tmp_path)]) == 0
    assert [path for path, _ in seen] == ["/v1/cities", "/v1/payers/away"] * 2
    [rivers, hills] = [PayerAway.model_validate(body) for path, body in seen if "payers" in path]
    assert (rivers.city, rivers.area) == ("990101", "990000")
    assert [(row.begins, row.ends) for row in rivers.hours] == [(time(3, 30), time(3, 40))]
    # A pack that says nothing takes back what the city's said before
    assert (hills.city, hills.hours) == ("990102", ())
    # also one that no longer names a payer
    seen.clear()
    before, _, after = SOUND.replace('payer_area = "990000"\n', "").partition("[[payer_away]]")
    alone = before + after[after.index("[") :]
    folder = written(tmp_path / "alone", alone)
    assert city.main(["load", str(folder), "--home", str(tmp_path)]) == 0
    assert seen[1] == ("/v1/payers/away", {"city": "990101", "area": None, "hours": []})
    assert PayerAway.model_validate(seen[1][1]).area is None


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"ends": "03:30"}, ("hours", 0, "ends")),
        ({"effective_to": "2026-02-28"}, ("hours", 0, "effective_to")),
        ({"area": None}, ("area",)),
    ],
)
def test_hours_that_cannot_be_are_refused_by_their_field(
    wrong: dict[str, Any], where: tuple[str | int, ...]
) -> None:
    hours = {"begins": "03:30", "ends": "03:29", "effective_from": "2026-03-01"}
    told = {"city": "990101", "area": "990000"}
    assert PayerAway.model_validate({**told, "hours": [hours]}).hours[0].ends == time(3, 29)
    for name, value in wrong.items():
        (told if name in told else hours)[name] = value
    with pytest.raises(ValidationError) as refusal:
        PayerAway.model_validate({**told, "hours": [hours]})
    assert [error["loc"] for error in refusal.value.errors()] == [where]


def test_a_file_is_sent_in_parts_that_stand_alone(tmp_path: Path) -> None:
    rows = [f"{n},DRUG00001,{n}\n" for n in range(100)]
    stock = tmp_path / "stock.csv"
    stock.write_text("pharmacy_id,product_code,count\n" + "".join(rows))
    shops = tmp_path / "shops.ndjson"
    shops.write_text('{"a": 1}\n{"a": 2}')
    *counts, last = city.parts_of([stock, shops], size=300)
    assert len(counts) > 3
    assert all(part.content.startswith(b"pharmacy_id,") for part in counts)
    assert b"".join(p.content.split(b"\n", 1)[1] for p in counts).decode() == "".join(rows)
    assert [part.lines_before for part in counts][1] == counts[0].content.count(b"\n") - 1
    assert (last.content, last.media_type) == (shops.read_bytes(), "application/x-ndjson")
    assert sum(part.size for part in counts) == sum(map(len, rows))
