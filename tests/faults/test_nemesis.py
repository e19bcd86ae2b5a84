"""One live system under one seeded nemesis: nothing is lost, nothing is doubled, nobody is stuck.

The seed is chosen so that the strokes meet different services. `./yaoda chaos` draws any other.
"""

import json
from pathlib import Path

import pytest

from services.commands.chaos.command import Options, doubled_of, rampage
from services.commands.chaos.faults import LASTS
from services.commands.chaos.scene import ORDERS_A_SECOND
from services.commands.chaos.schedule import one_of_each

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

SEED = 737
# A process that ends, at every kind of moment; broker and database killed; facts twice and from the
# start; poison at every door; partners who misbehave. Whatever else there is, is left to `--long`.
FAULTS = (
    *("kill-each", "P0", "P2", "P3", "P6", "P7"),
    *("broker-kill", "postgres-stop", "postgres-terminate"),
    *("payer-silent", "pharmacy-twice"),
    *("duplicates", "replay", "poison-intake", "poison-inner"),
)


async def test_a_nemesis_leaves_no_trace(tmp_path: Path) -> None:
    strokes = one_of_each(SEED, FAULTS, LASTS)
    options = Options(
        SEED, 1.0, FAULTS, tmp_path / "home", rate=ORDERS_A_SECOND, doubled=doubled_of(SEED)
    )

    report = await rampage(options, strokes)

    told = json.dumps({key: report[key] for key in ("red", "unsettled", "faults")}, indent=1)
    assert report["ok"], f"seed {SEED}: {told}"
    # Each of them struck, be it at the second or third try.
    done = {name: row["done"] for name, row in report["faults"].items()}
    assert done == dict.fromkeys(FAULTS, 1), told
    assert report["left_open"] == []
    assert report["closed"]["delivered"] > report["orders"] / 2
