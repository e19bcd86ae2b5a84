"""Transactions an order, from the counters of the services."""

from bench.pipeline.batches import Gathered, add, between

TEXT = """\
# TYPE yaoda_batch_messages histogram
yaoda_batch_messages_bucket{le="1.0",service="ops",source="record"} 3.0
yaoda_batch_messages_count{service="ops",source="record"} 12.0
yaoda_batch_messages_sum{service="ops",source="record"} 340.0
yaoda_batch_messages_created{service="ops",source="record"} 1.7e+09
yaoda_batch_messages_count{service="claim",source="call"} 2.0
yaoda_batch_messages_sum{service="claim",source="call"} 1.25e+02
"""


def counts(*texts: str) -> dict[str, Gathered]:
    found: dict[str, Gathered] = {}
    for text in texts:
        add(found, text)
    return found


def test_counts_and_sums_are_read_by_service_and_source() -> None:
    assert counts(TEXT) == {"ops record": Gathered(12, 340), "claim call": Gathered(2, 125)}
    # Two workers of a service are one.
    assert counts(TEXT, TEXT)["ops record"] == Gathered(24, 680)


def test_what_was_there_before_does_not_count() -> None:
    before = {"ops record": Gathered(2, 40)}
    assert between(before, counts(TEXT), orders=20) == {
        "ops record": {"an_order": 0.5, "messages": 30.0},
        "claim call": {"an_order": 0.1, "messages": 62.5},
    }
    assert between(counts(TEXT), counts(TEXT), orders=20) == {}
