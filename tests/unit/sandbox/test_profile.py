"""Profiles are typed, inherit section by section, and draw by name alone."""

from pathlib import Path

import pytest

from services.sandbox.profile import PROFILES, ProfileError, choose, draw, load, lognormal


def test_the_bench_keeps_the_mix_and_takes_no_time() -> None:
    standard, bench = load(PROFILES / "standard.toml"), load(PROFILES / "bench.toml")
    assert bench.instant
    assert not standard.instant
    assert bench.orders.lines == standard.orders.lines
    assert bench.orders.prescriptions == {1: 1.0}
    assert bench.pharmacy.accept_after.seconds(0.99) == 0
    assert bench.pharmacy.pick_pack.picking(0.9, 5, True) == 0
    assert bench.pharmacy.refuse == standard.pharmacy.refuse
    assert bench.courier.not_at_home == 0
    assert bench.payer.error_5xx == 0


def test_a_lognormal_has_the_quantiles_it_was_given() -> None:
    assert lognormal(0.5, 40, 110) == pytest.approx(40)
    assert lognormal(0.9, 40, 110) == pytest.approx(110)


def test_a_draw_depends_on_seed_and_names_only() -> None:
    assert draw(1, "a", 2) == draw(1, "a", 2)
    assert len({draw(seed, what) for seed in (1, 2) for what in ("a", "b")}) == 4
    assert draw(1, "ab", "c") != draw(1, "a", "bc")
    mean = sum(draw(1, n) for n in range(4000)) / 4000
    assert mean == pytest.approx(0.5, abs=0.02)


def test_choosing_weighs_the_shares() -> None:
    assert [choose(u, {"a": 0.25, "b": 0.75}) for u in (0.0, 0.24, 0.26, 0.999)] == list("aabb")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('name = "x"\nbase = "standard"\n[pharmacy]\nrefuse = 1.5\n', "pharmacy.refuse"),
        ('name = "x"\nbase = "standard"\n[pharmacy]\nrefuze = 0.5\n', "pharmacy.refuze"),
        ('name = "x"\nbase = "nowhere"\n', "nowhere.toml"),
        ("name = ", "odd.toml"),
    ],
)
def test_a_wrong_profile_is_refused_by_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=named):
        load(path)
