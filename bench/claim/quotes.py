"""Quotes a second of the settlement arithmetic, on one core.

The control, in turns with it, writes and reads the same claim as JSON with the standard library.
"""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

from services.claim.domain.settlement import (
    ChargeClass,
    Claim,
    Line,
    Person,
    YearFigures,
    broken,
    in_force,
    quote,
)
from services.claim.quoting import policies

AREA = "999001"
NOON = datetime(2026, 3, 2, 4, tzinfo=UTC)


def measure(seed: int, claims: int, rounds: int) -> dict[str, Any]:
    """The report: medians over rounds that go in turns, so that both see the same machine."""
    policy = in_force(policies(), AREA, NOON.date())
    assert policy is not None
    cases = drawn(seed, claims)
    texts = [_plain(claim) for _, claim in cases]
    ours, control = [], []
    for _ in range(rounds):
        ours.append(_rate(lambda: [quote(policy, *case) for case in cases], claims))
        control.append(_rate(lambda: [json.loads(json.dumps(text)) for text in texts], claims))
    return {
        "quotes_per_s": round(median(ours)),
        "json_round_trips_per_s": round(median(control)),
        "ratio": round(median(ours) / median(control), 3),
        "violations": sum(bool(broken(policy, quote(policy, *case))) for case in cases),
        "claims": claims,
        "lines": sum(len(claim.lines) for _, claim in cases),
        "seed": seed,
    }


def drawn(seed: int, claims: int) -> list[tuple[Person, Claim]]:
    """Synthetic persons with claims of one to five lines; the same seed draws the same."""
    dice = random.Random(seed)
    return [(_person(dice, number), _claim(dice)) for number in range(claims)]


def _person(dice: random.Random, number: int) -> Person:
    used = YearFigures(
        deductible={"ordinary": dice.choice((0, 12_000, 30_000))},
        past_deductible={"ordinary": dice.randrange(300_000)},
        fund={"ordinary": dice.randrange(450_000)},
        burden_fen=dice.randrange(1_500_000),
    )
    return Person(
        psn_no=str(number),
        insutype=dice.choice(("310", "390")),
        psn_type="11",
        years={NOON.year: used},
        balance_fen=dice.randrange(20_000),
        filed_diseases=frozenset({"M03900"}),
    )


def _claim(dice: random.Random) -> Claim:
    lines = tuple(
        Line(
            feedetl_sn=str(number),
            charge_class=dice.choice(tuple(ChargeClass)),
            price_e4=dice.randrange(10_000, 3_000_000, 100),
            quantity_e4=dice.randrange(1, 5) * 10_000,
            limit_e4=dice.choice((None, 500_000)),
            first_self_pay_ppm=dice.choice((0, 100_000)),
        )
        for number in range(dice.randrange(1, 6))
    )
    kind = dice.choice(("41", "14"))
    return Claim(med_type=kind, fee_at=NOON, settled_at=NOON, lines=lines, disease="M03900")


def _plain(claim: Claim) -> list[list[Any]]:
    return [
        [line.feedetl_sn, line.charge_class, line.price_e4, line.quantity_e4, line.limit_e4]
        for line in claim.lines
    ]


def _rate(work: Callable[[], object], claims: int) -> float:
    began = time.process_time()
    work()
    return claims / (time.process_time() - began)
