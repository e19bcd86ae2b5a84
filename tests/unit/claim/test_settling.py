"""The messages of a settlement and of its statement stay as they are frozen, in both provinces."""

import json
from typing import Any

import pytest

from tests.unit.claim.messages import AREAS
from tests.unit.claim.settling import NUMBERS, golden, sample


@pytest.mark.parametrize("area", AREAS)
async def test_each_message_goes_through_the_doors_as_it_is_frozen(area: str) -> None:
    found = await sample(area)
    assert json.loads(json.dumps(found)) == golden(area)
    assert sorted(found) == sorted(NUMBERS)


def test_the_frozen_ones_say_the_same_in_the_words_of_each_province() -> None:
    east, west = (golden(area) for area in AREAS)
    # What claim makes of them is the same but for the area's own office and our message's number
    assert east["2102"]["inside"]["split"] == west["2102"]["inside"]["split"]
    assert east["2103"]["inside"] == west["2103"]["inside"]
    assert east["6301"]["inside"] == east["2102"]["inside"]
    assert east["9102"]["inside"] == west["9102"]["inside"]
    assert [row["code"] for row in east["9102"]["inside"]] == ["000101", "000103"]
    # And they are written as each writes
    assert east["2102"]["output"]["setlinfo"]["psn_cash_pay"] == "35"
    told: Any = json.loads(west["2102"]["output"])
    assert told["setlinfo"]["cash_payamt"] == 35.0
    assert "trac_info" in west["2102"]["input"]
    assert "drug_trac_info" in east["2102"]["input"]
