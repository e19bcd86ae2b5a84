"""What the simulated payer and provider decide, without their databases."""

import pytest
from pydantic import ValidationError

from services.catalogue import ChargeClass, products
from services.sandbox.far_side import Faults, order_of, short_id
from services.sandbox.payer import (
    FUND_PERCENT,
    HAS_ACCOUNT,
    Line,
    Payer,
    Reverse,
    balance_fen,
    declines,
    expired,
    fund_share,
)
from services.sandbox.payment import Hold, pays
from services.sandbox.profile import PROFILES, load

PROFILE = load(PROFILES / "standard.toml")
TOKENS = [f"EV-{n}" for n in range(20_000)]


def line(product_code: str, unit_price_fen: int = 1_001, quantity: int = 3) -> Line:
    return Line(
        line_id="1", product_code=product_code, quantity=quantity, unit_price_fen=unit_price_fen
    )


def of_class(charge_class: ChargeClass) -> str:
    found = (p.product_code for p in products().values() if p.charge_class is charge_class)
    return next(found)


@pytest.mark.parametrize(("charge_class", "fund_fen"), [("A", 2_402), ("B", 1_922), ("C", 0)])
def test_the_fund_pays_a_flat_share_by_class_rounded_a_line(
    charge_class: str, fund_fen: int
) -> None:
    assert fund_share([line(of_class(ChargeClass(charge_class)))]) == fund_fen
    assert set(FUND_PERCENT) == set(ChargeClass)


def test_lines_are_rounded_one_by_one_and_unknown_drugs_are_class_c() -> None:
    half = line(of_class(ChargeClass.A), unit_price_fen=3, quantity=1)
    assert fund_share([half, half]) == 4
    assert fund_share([line("ZZ99ZZZ999Z9")]) == 0


def test_refusals_come_at_the_profiles_rate_and_never_change() -> None:
    refused = [token for token in TOKENS if declines(PROFILE, 1, token)]
    assert len(refused) / len(TOKENS) == pytest.approx(PROFILE.payer.declines, rel=0.25)
    late = [token for token in TOKENS if expired(PROFILE, 1, token)]
    assert len(late) / len(TOKENS) == pytest.approx(PROFILE.payer.token_expired, rel=0.25)
    assert refused == [token for token in TOKENS if declines(PROFILE, 1, token)]
    assert refused != [token for token in TOKENS if declines(PROFILE, 2, token)]


def test_some_have_an_account_and_some_do_not_pay() -> None:
    balances = [balance_fen(1, token) for token in TOKENS]
    assert sum(b > 0 for b in balances) / len(TOKENS) == pytest.approx(HAS_ACCOUNT, abs=0.02)
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
    assert Faults() == Faults(0.0, 0.0)
    one, same, other = Payer(PROFILE, 1).side, Payer(PROFILE, 1).side, Payer(PROFILE, 2).side
    assert one.draw("latency", "H-1") == same.draw("latency", "H-1")
    assert one.draw("latency", "H-1") != other.draw("latency", "H-1")
