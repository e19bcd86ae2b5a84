"""Since when the oldest fact waits, whatever the rows' own time says."""

from services.kit.relay import Backlog


def test_the_oldest_row_that_still_waits_counts() -> None:
    backlog = Backlog()
    assert backlog.look([], now=1.0) is None
    assert backlog.look([7, 8], now=2.0) == 2.0
    assert backlog.look([7, 8, 9], now=5.0) == 2.0
    assert backlog.look([9], now=6.0) == 5.0


def test_what_was_published_is_forgotten() -> None:
    backlog = Backlog()
    backlog.look([7], now=2.0)
    assert backlog.look([], now=3.0) is None
    assert backlog.look([8], now=4.0) == 4.0
