"""A few services on one database: the log, the order of reading and every fault are the test's."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson
from asyncpg.transaction import Transaction

from schemas import flow
from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Command, Event
from schemas.prescription import PrescriptionIssued
from schemas.values import Order, Purpose
from services.claim.app import SERVICE as CLAIM
from services.commands.invariants import look, scan
from services.commands.invariants.evidence import Evidence, Topics
from services.commands.invariants.table import INVARIANTS
from services.delivery.app import SERVICE as DELIVERY
from services.dispatch.app import SERVICE as DISPATCH
from services.dispatch.desk import Desk
from services.kit import guard
from services.kit.calls import LEASE, LEASE_S, CallRow
from services.kit.db import connect, create_pool
from services.kit.decision import Actor, CallAnswered, CallOutcome
from services.kit.handler import GapFound, Shell
from services.kit.health import Health
from services.kit.ids import new_id, partition_of
from services.kit.relay import Relay
from services.kit.service import Incoming, Record, Source
from services.kit.spec import NOW
from services.kit.store import SQL
from services.kit.tenants import Tenants
from services.kit.unit import Result
from services.kit.vault import Vault
from services.review.app import SERVICE as REVIEW
from tests.databases import Database
from tests.integration.standing import settings_of, stand_still
from tests.simulation.log import Log, Producer, Reader
from tests.simulation.outside import FarSides
from tests.unit.dispatch.samples import sealed_part
from tests.unit.prescription.examples import clinical, issued, line, sheet, submission

SERVICES = {service.name: service for service in (REVIEW, CLAIM, DISPATCH, DELIVERY)}
BLOCKED_S_MAX = 20
# Offers that are told by hand are of pharmacies that nobody published.
NOT_PLAYED = frozenset({"I19"})
BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
EXPIRY = """
INSERT INTO prescription.timer (order_id, kind, ref, due_at) VALUES ($1, 'expiry', '', $2)
"""
SAY = """
WITH told AS (
    INSERT INTO {schema}.state AS known (order_id, tenant_id, version) VALUES ($1, $2, 1)
    ON CONFLICT (order_id) DO UPDATE SET version = known.version + 1 RETURNING version
)
INSERT INTO {schema}.outbox (shard, topic, key, event_id, type, version, aggregate_version,
                             tenant_id, time, causation_id, attempt, body)
SELECT $3, $4, $1, $5, $6, $7, told.version, $2, $8, $5, $9, $10 FROM told
"""
UNPUBLISHED = "SELECT o.* FROM {schema}.outbox o JOIN {schema}.outbox_open USING (id) ORDER BY id"
PUBLISHED = "DELETE FROM {schema}.outbox_open WHERE id = $1"


@dataclass
class Topology:
    """Real shells; whoever has none speaks through `say`, which writes his outbox."""

    database: Database
    conn: asyncpg.Connection
    tenants: Tenants
    stack: AsyncExitStack
    log: Log = field(default_factory=Log)
    far: FarSides = field(default_factory=lambda: FarSides(Random(0), refuses=0))
    readers: dict[str, Reader] = field(default_factory=dict)

    async def worker(self, name: str) -> Shell:
        """One more worker of a service; the first one's positions stand at the start."""
        if name not in self.readers:
            await stand_still(self.database, name)
            self.readers[name] = Reader(self.log, flow.inputs(name))
        settings = settings_of(self.database, name)
        pool = await create_pool(settings, name, min_size=1, max_size=4)
        self.stack.push_async_callback(pool.close)
        await guard.enter(pool)
        vault = Vault.load(settings.master_key_file)
        extras = Desk(new_id()) if name == "dispatch" else None
        return Shell(
            SERVICES[name],
            pool,
            vault=vault,
            tenants=self.tenants,
            health=Health(name),
            extras=extras,
        )

    def actor(self, name: str) -> Actor:
        """By the name it has in the sandbox."""
        return next(actor for actor in self.tenants.all() if actor.name == name)

    def tenant(self, name: str) -> UUID:
        """The same one's id."""
        return self.actor(name).tenant_id

    @asynccontextmanager
    async def holding(self, table: str, column: str, value: Any) -> AsyncIterator[Transaction]:
        """Some rows are locked by somebody else; over at the end, or when he rolls back."""
        conn = await asyncpg.connect(self.database.dsn())
        try:
            lock = conn.transaction()
            await lock.start()
            await conn.execute(f"SELECT 1 FROM {table} WHERE {column} = $1 FOR UPDATE", value)
            yield lock
        finally:
            await conn.close()

    async def blocked(self, count: int, unless: "asyncio.Task[Any] | None" = None) -> None:
        """Until so many connections wait for a lock, or this task got through."""
        async with asyncio.timeout(BLOCKED_S_MAX):
            while not (unless and unless.done()):
                if await self.conn.fetchval(BLOCKED) >= count:
                    return
                await asyncio.sleep(0.02)

    async def issue(self, order: Order) -> Order:
        """A hospital's order; its expiry is watched as prescription would."""
        owned = order.model_copy(update={"hospital_id": self.tenant("hospital-a")})
        sheets = tuple({line.prescription_id for line in owned.lines})
        await self.say(
            PrescriptionIssued(
                order_id=owned.order_id,
                order=owned,
                clinical=sealed_part(),
                prescription_ids=sheets,
            )
        )
        await self.conn.execute(EXPIRY, owned.order_id, owned.expires_at)
        return owned

    async def prescribed(self, hospital: str, part: int) -> PrescriptionIssued:
        """What a hospital's submission of the same person became; its order lies in this part."""
        while partition_of(order_id := new_id()) != part:
            pass
        written = submission(sheet(1, line("metformin"), prescription_id=str(new_id())))
        settings = settings_of(self.database, "prescription")
        vault = Vault.load(settings.master_key_file)
        conn = await connect(settings, "prescription")
        try:
            sealed = await vault.seal(conn, order_id, Purpose.REVIEW, clinical(written))
        finally:
            await conn.close()
        made = issued(written)
        changes = {"order_id": order_id, "hospital_id": self.tenant(hospital)}
        order = made.order.model_copy(update=changes)
        return made.model_copy(update={"order_id": order_id, "order": order, "clinical": sealed})

    async def say(self, *facts: Event) -> None:
        """Facts of services that have no shell here, numbered and published as theirs."""
        for fact in facts:
            topic = flow.topic_of(type(fact))
            await self.conn.execute(
                SAY.format(schema=topic.partition(".")[0]),
                fact.key(),
                self.tenant("hospital-a"),
                partition_of(fact.key()),
                topic,
                new_id(),
                fact.TYPE,
                fact.VERSION,
                NOW,
                getattr(fact, "attempt", None),
                body_of(fact),
            )
        await self.publish()

    async def publish(self) -> None:
        """Every relay of every service, once."""
        for schema in flow.SERVICES:
            for row in await self.conn.fetch(UNPUBLISHED.format(schema=schema)):
                key = str(row["key"]).encode()
                self.log.append(row["topic"], row["shard"], key, row["body"], _headers(schema, row))
                await self.conn.execute(PUBLISHED.format(schema=schema), row["id"])

    @asynccontextmanager
    async def relay(self, name: str, shard: int) -> AsyncIterator["Sender"]:
        """One more relay of a service, which wants this shard and has tried to get it."""
        settings = settings_of(self.database, name)
        conn = await connect(settings, name)
        wanted = frozenset({shard})
        relay = Relay(settings, name, asyncio.Event(), lambda: wanted, Health(name))
        try:
            await relay._claim(conn)
            yield Sender(relay, conn, self.log)
        finally:
            await conn.close()

    async def hear(self, shell: Shell, *topics: str) -> None:
        """Let a service read these topics to their ends, rewound where it finds a gap."""
        reader = self.readers[shell.service.name]
        while places := [place for place in sorted(reader.behind()) if place[0] in topics]:
            for place in places:
                batch = reader.fetch(place, 100)
                try:
                    await shell.records(batch)
                except GapFound as found:
                    for gap in found.gaps:
                        reader.seek((gap.topic, gap.part), gap.next_offset)
                else:
                    reader.ack(batch)
            await self.publish()

    async def command(self, shell: Shell, command: Command, tenant: str) -> Result:
        """A command over HTTP."""
        actor = self.actor(tenant)
        key = getattr(command, "order_id", None)
        assert key is not None
        incoming = Incoming(new_id(), key, actor.tenant_id, command, Source.HTTP, actor)
        (result,) = await shell.commands([incoming])
        await self.publish()
        return result

    async def lease(self, shell: Shell) -> list[CallRow]:
        """Take up the open outside calls, as a completer does."""
        rows = await shell.pool.fetch(LEASE, LEASE_S, 100)
        return [CallRow(**{**dict(row), "request": {}}) for row in rows]

    async def answer(self, shell: Shell, row: CallRow) -> None:
        """The call arrives at the far side, and its answer here."""
        request = await self.conn.fetchval("SELECT request FROM claim.call WHERE id = $1", row.id)
        reply = self.far.act(row.kind, orjson.loads(request), row.key)
        await shell.answer(row, CallAnswered(row.kind, row.ref, reply.outcome, reply.response))
        await self.publish()

    async def unknown(self, shell: Shell, row: CallRow) -> None:
        """The caller gives the call up."""
        await shell.answer(row, CallAnswered(row.kind, row.ref, CallOutcome.UNKNOWN))
        await self.publish()

    async def answer_all(self, shell: Shell) -> None:
        """Until no outside call is open."""
        while rows := await self.lease(shell):
            for row in rows:
                await self.answer(shell, row)

    async def seen(self) -> dict[str, tuple[str, ...]]:
        """What `yaoda check` finds wrong, by invariant."""
        evidence = await self._evidence()
        asked = {name: each for name, each in INVARIANTS.items() if name not in NOT_PLAYED}
        found = {name: await each.look(evidence) for name, each in asked.items()}
        return {name: finding.ids for name, finding in found.items() if finding.ids}

    async def _evidence(self) -> Evidence:
        topics, known = Topics(), set[str]()
        ends = dict(self.log.ends())
        for record in self._records():
            scan._take(topics, _Scanned(record), ends, known)
        return Evidence(
            topics=topics,
            before=await look._before(self.conn),
            conn=self.conn,
            then=self.conn,
            tenants={str(actor.tenant_id): actor.kind for actor in self.tenants.all()},
            ledgers=self.far.ledgers(),
            committed={name: dict(reader.committed) for name, reader in self.readers.items()},
            ends=ends,
            remembered={},
        )

    def _records(self) -> Iterable[Record]:
        return (record for records in self.log.parts.values() for record in records)


@dataclass(frozen=True)
class Sender:
    """A relay by hand, on the log in memory."""

    relay: Relay
    conn: asyncpg.Connection
    log: Log

    async def waiting(self) -> list[asyncpg.Record]:
        """What it would send next."""
        return await self.conn.fetch(SQL["unpublished"], sorted(self.relay.owned), 100)

    async def send(self, rows: Sequence[asyncpg.Record]) -> None:
        """All of it, and mark it."""
        if rows:
            await self.relay._publish(self.conn, cast(Any, Producer(self.log)), rows)


class _Scanned:
    """A record as the scan has it from its consumer."""

    def __init__(self, record: Record) -> None:
        self.topic, self.partition, self.offset = record.topic, record.part, record.offset
        self.value, self.headers = record.value, record.headers


def _headers(schema: str, row: asyncpg.Record) -> list[tuple[str, bytes]]:
    names = ("type", "version", "time", "tenant_id", "aggregate_version", "correlation_id")
    attributes = Attributes(
        id=row["event_id"],
        source=f"/yaoda/{schema}",
        subject=str(row["key"]),
        causation_id=row["causation_id"],
        attempt=row["attempt"],
        **{name: row[name] for name in names},
    )
    return headers_of(attributes)


@asynccontextmanager
async def topology_on(database: Database) -> AsyncIterator[Topology]:
    """On a database that is marked as a test's, so that guards can be removed."""
    conn = await asyncpg.connect(database.dsn())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(conn.close)
        await conn.execute(f"ALTER DATABASE \"{database.name}\" SET {guard.MARK} = 'yes'")
        tenants = Tenants.load(settings_of(database, "claim").tenants_file)
        yield Topology(database, conn, tenants, stack)
