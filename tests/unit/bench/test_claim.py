"""The quote benchmark: the same seed draws the same, and its report holds what it promises."""

from bench.claim import drawn, measure


def test_the_same_seed_draws_the_same_claims() -> None:
    assert drawn(7, 20) == drawn(7, 20)
    assert drawn(7, 20) != drawn(8, 20)


def test_the_report_counts_what_it_measured_and_names_what_it_did_not() -> None:
    told = measure(seed=1, claims=50, rounds=1)
    assert told["violations"] == 0
    assert told["quotes_per_s"] > 0
    assert told["price_and_settle"] == "not_offered_yet"
