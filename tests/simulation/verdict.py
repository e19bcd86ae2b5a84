"""What must hold at the end of a run: the product's own check, on these tables and this log."""

from types import SimpleNamespace
from typing import Any

from services.commands.invariants.evidence import Evidence, Topics
from services.commands.invariants.look import _before
from services.commands.invariants.scan import _take
from services.commands.invariants.table import INVARIANTS
from services.kit.spec import NOW
from tests.simulation.roster import SERVICES
from tests.simulation.world import World

LAID_ASIDE = """
SELECT '{name}' AS service, message_type, code, detail, order_id, state
FROM {name}.parked WHERE state IN ('parked', 'behind')
"""


async def judge(world: World) -> tuple[list[str], dict[str, int]]:
    """The violations in words, and how much each invariant has examined."""
    wrong = list(world.broken)
    wrong += [
        f"still open: {road.order.order_number} {road.order_id}"
        for road in world.roads
        if road.outcome is None
    ]
    for name in SERVICES:
        for row in await world.stand.conn.fetch(LAID_ASIDE.format(name=name)):
            wrong.append(
                f"{row['state']} in {name}: {row['message_type']} of {row['order_id']}: "
                f"{row['code']} {row['detail']}"
            )
    evidence = await _evidence(world)
    examined = {}
    for name, invariant in INVARIANTS.items():
        found = await invariant.look(evidence)
        examined[name] = found.examined
        wrong += [f"{name} {text}" for text in found.ids]
    return wrong, examined


async def _evidence(world: World) -> Evidence:
    ends = dict(world.log.ends())
    topics = Topics()
    known: set[str] = set()
    for (topic, part), records in sorted(world.log.parts.items()):
        for record in records:
            _take(topics, _as_scanned(record, topic, part), ends, known)
    return Evidence(
        topics=topics,
        before=await _before(world.stand.conn),
        conn=world.stand.conn,
        then=world.stand.conn,
        tenants={str(actor.tenant_id): actor.kind for actor in world.stand.tenants.all()},
        ledgers=world.far.ledgers(),
        committed={name: dict(reader.committed) for name, reader in world.readers.items()},
        ends=ends,
        remembered={},
    )


def _as_scanned(record: Any, topic: str, part: int) -> Any:
    return SimpleNamespace(
        topic=topic,
        partition=part,
        offset=record.offset,
        value=record.value,
        headers=record.headers,
        at=NOW,
    )
