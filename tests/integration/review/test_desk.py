"""Desks of other places, and packs that are tried in the dark, on a real database."""

import pytest

from services.review.rules import Pack, chosen
from services.review.rules.shelf import Packs, installed, stand, stand_in_the_dark
from tests.integration.review.test_review import Road, fresh, road
from tests.unit.review.examples import CITY, clear, doubtful

__all__ = ["road"]

pytestmark = pytest.mark.live


async def test_another_desk_sees_nothing_and_a_pack_in_the_dark_is_counted(road: Road) -> None:
    content = dict(chosen(CITY, "").content)
    far = Pack({**content, "desk": {**content["desk"], "reviewers": ["elsewhere"]}})
    rows = [
        {**row, "figures": {**row["figures"], "ordinary": 3}} if row["id"] == "P08" else row
        for row in content["rules"]
    ]
    stricter = Pack({**content, "rules": rows})
    stand_in_the_dark(Packs((stricter,), {}, {}))
    try:
        order_id = await road.submit(fresh(doubtful()), fresh(clear(2)))
        stand(Packs((far,), {}, {}))
        assert await road.queue("all") == []
        assert (await road.take(order_id)).json()["code"] == "not_your_desk"
        shut = await road.desk.get(f"/v1/reviews/{order_id}", "reviewers")
        assert (shut.status_code, shut.json()["code"]) == (403, "not_your_desk")
        everywhere = (await road.desk.get("/v1/reviews", "operations")).json()["cases"]
        assert [case["order_id"] for case in everywhere] == [str(order_id)]
    finally:
        stand(installed())
        stand_in_the_dark(None)
    report = (await road.desk.get("/v1/reviews/dark?city=990100", "operations")).json()
    (told,) = report["packs"]
    assert (told["live"], told["dark"]) == (chosen(CITY, "").id, stricter.id)
    assert (told["asked"], told["differ"]) == (2, 1)
    assert [(rule["rule"], rule["appeared"]) for rule in told["rules"]] == [("P08", 1)]
    (latest,) = report["latest"]
    assert (latest["order_id"], latest["live"], latest["appeared"]) == (
        str(order_id),
        "pass",
        ["P08"],
    )
    other = (await road.desk.get("/v1/reviews/dark?city=110000", "operations")).json()
    assert other == {"packs": [], "latest": []}
