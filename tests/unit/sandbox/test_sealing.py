"""What a robot pharmacy scans: every pack stands in one batch, and none is past its last day."""

from datetime import UTC, datetime

import pytest

from services.delivery.domain.batches import check_batches
from services.kit.ids import new_id
from services.sandbox.robots.pharmacy import Task, seal_of
from services.sandbox.world import World

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(("quantity", "boxes"), [(1, 1), (2, 1), (5, 2)])
def test_every_pack_is_of_one_batch_that_is_still_good(
    world: World, quantity: int, boxes: int
) -> None:
    product_code = "XC08CAZ001A0010001SYNTH"
    line = {"line_id": str(new_id()), "product_code": product_code, "quantity": quantity}
    task = Task(new_id(), "demo-1", world.shops[0], new_id(), 1, (line,), START, "t" * 32)
    (scan,) = seal_of(task).scans
    assert len({batch.number for batch in scan.batches}) == len(scan.batches) == boxes
    assert tuple(code for batch in scan.batches for code in batch.codes) == scan.codes
    assert check_batches((scan,), START) is None
