"""What every harness of one process without its broker needs: settings, a still clock, records."""

import json
from typing import Any
from uuid import UUID

import asyncpg

from schemas import flow
from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Event
from services.kit import clock
from services.kit.config import Settings
from services.kit.ids import new_id, partition_of
from services.kit.service import Record
from services.kit.spec import NOW
from tests.databases import Database


def settings_of(database: Database, process: str) -> Settings:
    """The settings that this process would read from its environment."""
    values: dict[str, Any] = {
        name.removeprefix("YAODA_").lower(): value
        for name, value in database.env_for(process).items()
    }
    values["addresses"] = json.loads(values["addresses"])
    return Settings(**values)


async def stand_still(database: Database, service: str) -> None:
    """Time stands at NOW, and the service's positions at the start of its logs."""
    conn = await asyncpg.connect(database.dsn())
    try:
        await clock.simulate(conn, NOW)
        statement = f"INSERT INTO {service}.position (topic, part, next_offset) VALUES ($1, $2, 0)"
        rows = [(topic, part) for topic in flow.inputs(service) for part in range(flow.PARTITIONS)]
        await conn.executemany(statement, rows)
    finally:
        await conn.close()


def next_record(fact: Event, tenant_id: UUID, offsets: dict[tuple[str, int], int]) -> Record:
    """A fact as Kafka would bring it, behind those that `offsets` counts."""
    topic, part = flow.topic_of(type(fact)), partition_of(fact.key())
    offset = offsets.get((topic, part), 0)
    offsets[topic, part] = offset + 1
    attributes = Attributes(
        id=new_id(),
        type=fact.TYPE,
        version=fact.VERSION,
        source=f"/{topic}",
        time=NOW,
        subject=str(fact.key()),
        tenant_id=tenant_id,
    )
    headers = tuple(headers_of(attributes))
    return Record(topic, part, offset, str(fact.key()).encode(), body_of(fact), headers)
