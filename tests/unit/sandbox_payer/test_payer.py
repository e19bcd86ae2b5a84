"""What the simulated payer and provider decide, without their databases."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from schemas.values import CHINA
from services.sandbox.far_side import Faults, order_of, short_id
from services.sandbox.insured import EMPLOYEES, HAS_ACCOUNT, drawn
from services.sandbox.payer import Payer, Reverse, declines, expired
from services.sandbox.payment import Hold, pays
from services.sandbox.profile import PROFILES, load

PROFILE = load(PROFILES / "standard.toml")
TOKENS = [f"EV-{n}" for n in range(20_000)]


def test_refusals_come_at_the_profiles_rate_and_never_change() -> None:
    refused = [token for token in TOKENS if declines(PROFILE, 1, token)]
    assert len(refused) / len(TOKENS) == pytest.approx(PROFILE.payer.declines, rel=0.25)
    late = [token for token in TOKENS if expired(PROFILE, 1, token)]
    assert len(late) / len(TOKENS) == pytest.approx(PROFILE.payer.token_expired, rel=0.25)
    assert refused == [token for token in TOKENS if declines(PROFILE, 1, token)]
    assert refused != [token for token in TOKENS if declines(PROFILE, 2, token)]


def test_persons_are_drawn_and_some_do_not_pay() -> None:
    persons = [drawn(1, token) for token in TOKENS]
    with_account = sum(person.balance_fen > 0 for person in persons) / len(TOKENS)
    assert with_account == pytest.approx(HAS_ACCOUNT, abs=0.02)
    employees = sum(person.insutype == "310" for person in persons) / len(TOKENS)
    assert employees == pytest.approx(EMPLOYEES, abs=0.02)
    assert all(p.insutype == "310" for p in persons if p.balance_fen)
    share = sum(pays(PROFILE, 1, token) for token in TOKENS) / len(TOKENS)
    assert share == pytest.approx(PROFILE.patient.pays_share, abs=0.005)


def test_bodies_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        Hold.model_validate({"order_number": "1", "attempt": 1, "amount_fen": 1, "tip": 1})
    with pytest.raises(ValidationError):
        Hold.model_validate({"order_number": "1", "attempt": 1, "amount_fen": 0})
    with pytest.raises(ValidationError):
        Reverse.model_validate({"order_number": "1"})


def test_ids_follow_from_keys() -> None:
    assert order_of("abc:settle:1.1") == "abc"
    assert short_id("ST", "k") == short_id("ST", "k") != short_id("ST", "l")


def test_faults_follow_the_profile_and_the_seed() -> None:
    assert Faults() == Faults(0.0, 0.0, 0.0, 0.0, 0.0)
    one, same, other = Payer(PROFILE, 1).side, Payer(PROFILE, 1).side, Payer(PROFILE, 2).side
    assert one.draw("latency", "H-1") == same.draw("latency", "H-1")
    assert one.draw("latency", "H-1") != other.draw("latency", "H-1")


def faulty(**shares: float) -> Payer:
    """A payer with these faults and no others."""
    calm = dict.fromkeys(("error_5xx", "accepts_then_silent"), 0.0)
    payer = PROFILE.payer.model_copy(update=calm | shares)
    return Payer(PROFILE.model_copy(update={"payer": payer}), 1)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("error_5xx", "err"),
        ("accepts_then_silent", "silent"),
        ("wrong_amounts", "wrong"),
        ("arrives_twice", "twice"),
        ("arrives_late", "late"),
    ],
)
def test_each_fault_comes_at_its_rate_by_the_seed_alone(name: str, fault: str) -> None:
    def drawn() -> list[str]:
        side = faulty(**{name: 0.25}).side
        return [side._fault("settle", (token, "settle:0"), 1) for token in TOKENS[:4_000]]

    found = drawn()
    assert set(found) == {"none", fault}
    assert found.count(fault) / len(found) == pytest.approx(0.25, abs=0.04)
    assert drawn() == found


def test_who_asks_again_gets_the_answer_that_was_made() -> None:
    side = faulty(accepts_then_silent=1.0, arrives_late=1.0).side
    assert side._fault("settle", ("H-1", "settle:0"), 1) == "silent"
    assert side._fault("settle", ("H-1", "settle:0"), 2) == "none"


def test_a_day_may_end_an_hour_early_for_the_payer_alone() -> None:
    payer = faulty(day_end_cut=0.5)
    noon, late = (datetime(2026, 3, 2, hour, 30, tzinfo=UTC) for hour in (4, 15))
    assert all(payer.counted_at(token, noon) == noon for token in TOKENS[:50])
    moved = [token for token in TOKENS[:1_000] if payer.counted_at(token, late) != late]
    assert len(moved) == pytest.approx(500, abs=80)
    assert {payer.counted_at(token, late).astimezone(CHINA).day for token in moved} == {3}
