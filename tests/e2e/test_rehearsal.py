"""The loss of a whole instance under load, as an operator rehearses it."""

import pytest

from services.commands.rehearsal import rehearse

pytestmark = [pytest.mark.live, pytest.mark.alongside, pytest.mark.long, pytest.mark.timeout(2400)]


async def test_what_was_acknowledged_outlives_the_instance() -> None:
    report = await rehearse(orders=60, keep=False, say=print)
    assert report["ok"], report
    assert report["after_backup"] >= 10
