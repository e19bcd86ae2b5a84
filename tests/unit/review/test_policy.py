"""The desk's policy as a part of a pack: read, refused and pinned like its rules."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from services.review.rules import PackError, pack
from services.review.rules.policy import Desk, Pool, Timeout
from services.review.rules.shelf import installed, read
from services.sandbox.robots.reviewer import PHARMACISTS
from services.sandbox.world import city_code
from tests.unit.review.test_packs import RULES, STRICT, with_files

NIGHT = Pool.model_validate(
    {"name": "night", "starts": "20:00", "ends": "08:00", "reviewers": ["far"]}
)
HERE, FAR = UUID(int=1), UUID(int=2)
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def at(hour: int, minute: int = 0) -> datetime:
    """That time of the day in China."""
    return datetime(2026, 3, 2, hour, minute, tzinfo=UTC) - timedelta(hours=8)


@pytest.mark.parametrize(
    ("moment", "open_"),
    [(at(19, 59), False), (at(20), True), (at(23, 59), True), (at(7, 59), True), (at(8), False)],
)
def test_a_pool_over_midnight_works_from_its_first_to_before_its_last_minute(
    moment: datetime, open_: bool
) -> None:
    assert NIGHT.works(moment) is open_


def test_a_pool_by_day_and_one_that_never_ends() -> None:
    day = NIGHT.model_copy(update={"starts": NIGHT.ends, "ends": NIGHT.starts})
    assert [day.works(at(hour)) for hour in (7, 8, 19, 20)] == [False, True, True, False]
    always = NIGHT.model_copy(update={"ends": NIGHT.starts})
    assert all(always.works(at(hour)) for hour in (0, 19, 20, 23))


def test_without_names_every_desk_is_admitted_with_names_only_those() -> None:
    assert Desk().admits("anyone", FAR, None, NOON)
    named = Desk(reviewers=("home",))
    assert named.admits("home", HERE, None, NOON)
    assert Desk(reviewers=(str(HERE),)).admits("other", HERE, None, NOON)
    assert not named.admits("far", FAR, None, NOON)


def test_a_pool_is_admitted_in_its_hours_and_when_nobody_came_in_time() -> None:
    desk = Desk(reviewers=("home",), pools=(NIGHT,))
    assert desk.admits("far", FAR, None, at(21))
    assert not desk.admits("far", FAR, None, NOON)
    assert not desk.admits("elsewhere", FAR, None, at(21))
    patient = desk.model_copy(update={"timeout": Timeout(minutes=10, then="pool")})
    assert not patient.admits("far", FAR, NOON - timedelta(minutes=9), NOON)
    assert patient.admits("far", FAR, NOON - timedelta(minutes=10), NOON)
    assert not patient.admits("elsewhere", FAR, NOON - timedelta(hours=1), NOON)


def test_a_city_changes_only_what_it_says(tmp_path: Path) -> None:
    text = STRICT + "[desk]\nauto_pass = true\n"
    own = read(with_files(tmp_path, packs_strict=text), RULES).chosen("990100")
    assert (own.desk.auto_pass, pack().desk.auto_pass) == (True, False)
    assert own.desk.decide_minutes == pack().desk.decide_minutes
    bare = read(with_files(tmp_path, packs_strict=STRICT), RULES).chosen("990100")
    assert bare.id != own.id, "the policy is a part of what a verdict is pinned to"


def test_what_no_pack_says_does_not_pass_by_itself() -> None:
    assert Desk().auto_pass is False
    assert installed().chosen("510100").desk.auto_pass is False


def test_synthetic_cities_let_pass_and_have_a_roster() -> None:
    desk = installed().chosen(city_code("any")).desk
    assert (desk.auto_pass, desk.only_roster) == (True, True)
    assert desk.roster.items() >= dict(PHARMACISTS).items()


def test_a_province_holds_where_its_city_says_nothing(tmp_path: Path) -> None:
    province = STRICT.replace('"strict"', '"sichuan"').replace('"990100"', '"51*"')
    city = STRICT.replace('"990100"', '"510100"')
    packs = read(with_files(tmp_path, packs_sichuan=province, packs_strict=city), RULES)
    places = ("510100", "510700", "500100", "")
    names = [packs.chosen(place).head.name for place in places]
    assert names == ["strict", "sichuan", "national", "national"]
    with pytest.raises(PackError, match="cities"):
        read(with_files(tmp_path, packs_strict=city.replace('"510100"', '"51"')), RULES)


@pytest.mark.parametrize(
    ("desk", "said"),
    [
        ('titles = ["2.5"]', "may not review"),
        ('senior = ["9"]', "no title"),
        ('second = ["P99"]', "rule P99: two pharmacists"),
        ('timeout = { minutes = 5, then = "approve" }', "timeout"),
        ('pools = [{ name = "n", starts = "25:00", ends = "08:00", reviewers = ["a"] }]', "starts"),
        ('pools = [{ name = "n", starts = "20:00", ends = "08:00", reviewers = [] }]', "reviewers"),
        ("unknown = 1", "unknown"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_pack(tmp_path: Path, desk: str, said: str) -> None:
    text = f"{STRICT}[desk]\n{desk}\n"
    with pytest.raises(PackError, match=r"packs/strict\.toml") as error:
        read(with_files(tmp_path, packs_strict=text), RULES)
    assert said in str(error.value)
