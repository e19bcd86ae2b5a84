"""Seven services on one database, run by hand: broker, clock, wires and people are in memory.

The handlers are the product's own: its shell, relay, sweeper, tick and completer of calls. Only
what drives them is replaced, so that a scheduler decides what happens next.
"""

import asyncio
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from schemas import flow, registry
from schemas.envelope import Attributes, attributes_of, body_of, headers_of
from schemas.message import CommandAnswered, OrderEvent
from services.dispatch import tick
from services.kit import clock, db, gather, guard
from services.kit.calls import CallRow, Calls, Leased
from services.kit.config import Settings
from services.kit.handler import GapFound, Shell
from services.kit.health import Health
from services.kit.ids import new_id, partition_of
from services.kit.relay import Relay
from services.kit.service import Idempotency, Incoming, Record, Service, Source
from services.kit.spec import NOW
from services.kit.store import SQL
from services.kit.tenants import Tenants
from services.kit.timers import PARK_EVERY, Guard, Sweeper
from services.kit.unit import Result
from services.kit.vault import Vault
from tests.databases import Database
from tests.integration.standing import settings_of
from tests.simulation.log import Log, Producer, Reader
from tests.simulation.outside import FarSides, lines
from tests.simulation.people import Move, Road
from tests.simulation.roster import SERVICES

SHARDS = frozenset(range(flow.PARTITIONS))
ROWS_MAX = 1000
# So many calls a transaction may lease for whoever decides them.
ROOMS = (0, 1, 64)
# Kept between runs: what a migration put there, and the chains that nobody may touch.
KEPT = ("migration", "audit_head", "position")
TABLES = """
SELECT schemaname || '.' || tablename FROM pg_tables
WHERE schemaname = ANY($1::text[]) AND tablename <> ALL($2::text[])
"""
NEXT_DUE = " UNION ALL ".join(
    f"SELECT min(due_at) AS at FROM {name}.timer WHERE due_at > kit.now()"
    f" UNION ALL SELECT min(deadline) FROM {name}.waiting WHERE deadline > kit.now()"
    for name in SERVICES
)
LAPSE = "UPDATE dispatch.city_lease SET until = clock_timestamp() - interval '1 s'"
CALL_AGAIN = """
UPDATE claim.call SET next_try_at = clock_timestamp() - interval '1 ms',
    lease_until = CASE WHEN id = ANY($1::bigint[]) THEN lease_until END
WHERE state <> 'answered'
"""


@dataclass
class Stand:
    """A database of its own, and connections that outlive one run."""

    conn: asyncpg.Connection
    settings: dict[str, Settings]
    pools: dict[str, asyncpg.Pool]
    # A relay holds a connection of its own.
    relaying: dict[str, asyncpg.Connection]
    tenants: Tenants
    master_key: Path

    async def clear(self) -> None:
        """As on the first day, for the next run."""
        rows = await self.conn.fetch(TABLES, list(SERVICES), list(KEPT))
        async with self.conn.transaction():
            # The audit refuses to be emptied, as it should.
            await self.conn.execute("SET LOCAL session_replication_role = replica")
            tables = ", ".join(["kit.data_key", *(row[0] for row in rows)])
            await self.conn.execute(f"TRUNCATE {tables} RESTART IDENTITY")
            for name in SERVICES:
                await self.conn.execute(
                    f"UPDATE {name}.audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')"
                )
                await self.conn.execute(f"DELETE FROM {name}.position")
                statement = f"INSERT INTO {name}.position (topic, part, next_offset)"
                parts = [(t, p) for t in flow.inputs(name) for p in range(flow.PARTITIONS)]
                await self.conn.executemany(f"{statement} VALUES ($1, $2, 0)", parts)
        await clock.simulate(self.conn, NOW)


@asynccontextmanager
async def standing(database: Database) -> AsyncIterator[Stand]:
    """Connections to a fresh migrated database whose commits need not be durable."""
    async with AsyncExitStack() as stack:
        conn = await asyncpg.connect(database.dsn())
        stack.push_async_callback(conn.close)
        await conn.execute(f'ALTER DATABASE "{database.name}" SET synchronous_commit = off')
        await conn.execute(f"ALTER DATABASE \"{database.name}\" SET {guard.MARK} = 'yes'")
        settings = {name: settings_of(database, name) for name in SERVICES}
        pools, relaying = {}, {}
        for name, own in settings.items():
            pools[name] = await db.create_pool(own, name)
            stack.push_async_callback(pools[name].close)
            relaying[name] = await db.connect(own, name)
            stack.push_async_callback(relaying[name].close)
        await guard.enter(pools["ops"])
        any_of = settings["ops"]
        tenants = Tenants.load(any_of.tenants_file)
        yield Stand(conn, settings, pools, relaying, tenants, any_of.master_key_file)


@contextmanager
def silent() -> Iterator[None]:
    """Without log lines, of which a run would write thousands."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    try:
        yield
    finally:
        structlog.configure(**before)


def _drop(logger: object, method: str, event: object) -> str:
    raise structlog.DropEvent


@dataclass
class Worker:
    """One process of a service."""

    shell: Shell
    relay: Relay
    sweeper: Sweeper
    calls: Calls | None


class Handed(Calls):
    """What is leased with its decision is on its way, until chance makes it."""

    worker: Worker
    world: "World"

    @property
    def room(self) -> int:
        """Often there is none, and a look finds it later."""
        return self.world.rng.choice(ROOMS)

    def begin(self, leased: Leased) -> None:
        """After the commit; nobody does it for a process that was killed before."""
        self.world.calling += [(self.worker, row) for row in leased.rows]
        self.world.counts["leased at once"] += len(leased.rows)


@dataclass
class Wires:
    """How often they break, and what goes over which."""

    breaks: float = 0.15
    intake: float = 0.4


@dataclass
class World:
    """Everything of one run. Each method is one step that a scheduler may choose."""

    stand: Stand
    rng: Random
    wires: Wires = field(default_factory=Wires)
    log: Log = field(default_factory=Log)
    workers: dict[str, list[Worker]] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    roads: list[Road] = field(default_factory=list)
    # Batches that a process read before it lost the partition, and calls that are on their way.
    in_hand: list[tuple[str, Worker, list[Record]]] = field(default_factory=list)
    calling: list[tuple[Worker, CallRow]] = field(default_factory=list)
    schedules: defaultdict[UUID, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.far = FarSides(self.rng)
        self.lines = lines(self.far, self.wires.breaks)
        self.actors = {actor.name: actor for actor in self.stand.tenants.all()}
        self.codes = itertools.count(1)
        self.acting: tuple[str, Worker]
        self._by_id: dict[UUID, Road] = {}
        self._by_number: dict[str, Road] = {}
        self._sent: dict[UUID, Road] = {}

    async def open(self, workers: int = 2) -> None:
        """Start the processes, on an empty log."""
        await self.stand.clear()
        for name, service in SERVICES.items():
            self.readers[name] = Reader(self.log, flow.inputs(name))
            self.workers[name] = [await self._start(service) for _ in range(workers)]

    async def _start(self, service: Service) -> Worker:
        name, stand = service.name, self.stand
        settings, pool = stand.settings[name], stand.pools[name]
        extras = None
        if service.extras is not None:
            async with service.extras(settings, pool) as opened:
                extras = opened
        health = Health(name)
        # One of its own, as a process has: keys of another run must not be remembered.
        vault = Vault.load(stand.master_key)
        shell = Shell(
            service, pool, vault=vault, tenants=stand.tenants, health=health, extras=extras
        )
        relay = Relay(settings, name, shell.wakes.relay, lambda: SHARDS, health)
        sweeper = Sweeper(
            shell, Guard(pool, self._ends), asyncio.Event(), lambda: SHARDS, service.tick_kinds
        )
        if service.callers is None:
            return Worker(shell, relay, sweeper, None)
        calls = Handed(pool, self.lines, shell.answer, shell.wakes.calls)
        worker = Worker(shell, relay, sweeper, calls)
        shell.completer, calls.world, calls.worker = calls, self, worker
        return worker

    async def _ends(self) -> Any:
        return self.log.ends()

    def add(self, road: Road) -> None:
        """An order that its hospital is about to submit."""
        self.roads.append(road)
        self._by_number[road.order.order_number] = road

    def one_of(self, name: str) -> Worker:
        """A process of this service, which acts next."""
        worker = self.rng.choice(self.workers[name])
        self.acting = name, worker
        return worker

    async def relay(self, name: str, limit: int = ROWS_MAX, accepted: int | None = None) -> int:
        """Publish from the outbox; the broker may accept only the first few."""
        conn = self.stand.relaying[name]
        rows = await conn.fetch(SQL["unpublished"], sorted(SHARDS), limit)
        if not rows:
            return 0
        try:
            await self.one_of(name).relay._publish(conn, Producer(self.log, accepted), rows)
        except KafkaError:
            self.counts["send failed"] += 1
        finally:
            self._hear()
        return len(rows)

    async def publish_again(self, name: str, limit: int) -> None:
        """The broker gets old facts once more, behind newer ones."""
        conn = self.stand.relaying[name]
        sql = (
            "SELECT * FROM outbox o WHERE NOT EXISTS (SELECT FROM outbox_open WHERE id = o.id)"
            " ORDER BY id DESC LIMIT $1"
        )
        rows = await conn.fetch(sql, limit)
        if not rows:
            return
        await self.one_of(name).relay._publish(conn, Producer(self.log), rows[::-1])
        self.counts["published again"] += len(rows)
        self._hear()

    def fetch(self, name: str, parts: int, limit: int, but: str = "") -> list[Record]:
        """The next records of some partitions as one batch, but of one topic none."""
        reader = self.readers[name]
        places = sorted(place for place in reader.behind() if place[0] != but)
        chosen = self.rng.sample(places, min(parts, len(places)))
        return [record for place in chosen for record in reader.fetch(place, limit)]

    async def apply(self, name: str, worker: Worker, batch: list[Record]) -> None:
        """Hand a batch to the shell; a jump in offsets is rewound, as the stream does it."""
        reader = self.readers[name]
        self.acting = name, worker
        for record in batch:
            self.counts["delivered"] += 1
            self._note(record.key, f"{name}<{record.topic}/{record.offset}")
        while batch:
            try:
                await worker.shell.records(batch)
            except GapFound as found:
                self.counts["gap"] += len(found.gaps)
                for gap in found.gaps:
                    place = gap.topic, gap.part
                    reader.seek(place, gap.next_offset)
                    batch = [r for r in batch if (r.topic, r.part) != place]
                continue
            reader.ack(batch)
            return

    async def sweep(self, name: str, *, park: bool = False) -> int:
        """Fire due timers; now and then, early messages past their deadline are parked."""
        sweeper = self.one_of(name).sweeper
        sweeper._turn = PARK_EVERY - 1 if park else 0
        return await sweeper._sweep()

    async def tick(self) -> int:
        """Match what is due."""
        shell = self.one_of("dispatch").shell
        return await tick.tick(shell, shell.extras)

    async def lapse(self) -> None:
        """Three seconds without a sign of life: another worker may take the cities."""
        await self.stand.conn.execute(LAPSE)

    async def lease_calls(self) -> int:
        """A completer takes what is open; the pauses of real time are over at once."""
        worker = self.one_of("claim")
        assert worker.calls is not None
        # What a dead process had in hand is free at once; time does not run for leases.
        await self.stand.conn.execute(CALL_AGAIN, [row.id for _, row in self.calling])
        rows = sorted(await worker.calls._lease(), key=lambda row: row.id)
        self.calling += [(worker, row) for row in rows]
        return len(rows)

    async def lose_lease(self) -> None:
        """A call takes so long that somebody else may make it; the first is still on its way."""
        if self.calling:
            lost = self.rng.randrange(len(self.calling))
            kept = [row.id for n, (_, row) in enumerate(self.calling) if n != lost]
            await self.stand.conn.execute(CALL_AGAIN, kept)
            self.counts["lease lost"] += 1

    async def settle_calls(self, count: int) -> None:
        """Some calls are made, or asked after; what is answered together is taken in together."""
        together: dict[int, tuple[Worker, list[CallRow]]] = {}
        for _ in range(min(count, len(self.calling))):
            worker, row = self.calling.pop(self.rng.randrange(len(self.calling)))
            together.setdefault(id(worker), (worker, []))[1].append(row)
            self._note(str(row.order_id).encode(), f"call {row.kind} {row.ref} {row.epoch}")
        for worker, rows in together.values():
            self.acting = "claim", worker
            for first in range(0, len(rows), gather.SIZE_MAX):
                await self._settle(worker, rows[first : first + gather.SIZE_MAX])

    async def _settle(self, worker: Worker, rows: Sequence[CallRow]) -> None:
        """At most one batch, so that chance alone decides who is first."""
        assert worker.calls is not None
        settling = [worker.calls._settle(row) for row in rows]
        # Whoever is killed, the others come to their end before the next step.
        for ended in await asyncio.gather(*settling, return_exceptions=True):
            if ended is not None:
                raise ended

    async def send(self, moves: Sequence[Move], *, http: bool = False) -> None:
        """People's commands, gathered by service, over HTTP or the intake topic."""
        by_service: defaultdict[str, list[Move]] = defaultdict(list)
        for move in moves:
            over_intake = move.service in flow.INTAKE and self.rng.random() < self.wires.intake
            lease_wanted = move.command.TYPE == "review.TakeCase"
            if over_intake and not lease_wanted and not http:
                await self._intake(move)
            else:
                by_service[move.service].append(move)
        for name, batch in by_service.items():
            await self._http(name, batch)

    async def _http(self, name: str, moves: Sequence[Move]) -> None:
        incoming = [self._incoming(move) for move in moves]
        for move in moves:
            self._note_command(move, "http")
        results = await self.one_of(name).shell.commands(incoming)
        for move, result in zip(moves, results, strict=True):
            self._answered(move, result)

    def _incoming(self, move: Move) -> Incoming:
        message_id = new_id()
        service, actor = SERVICES[move.service], move.actor
        known = None
        if move.key:
            digest = hashlib.sha256(body_of(move.command)).hexdigest()
            known = Idempotency(actor.tenant_id, move.key, digest)
        key = service.key_of(move.command, message_id)
        return Incoming(
            message_id, key, actor.tenant_id, move.command, Source.HTTP, actor, idempotency=known
        )

    def _answered(self, move: Move, result: Result) -> None:
        self.counts[f"command {result.code or result.verdict}"] += 1
        if result.status >= 500:
            self.broken.append(f"{move.command.TYPE} was answered {result.code}: {result.detail}")
        road = self._road_of(move)
        if road is not None and result.answer:
            road.told(result.answer)

    async def _intake(self, move: Move) -> None:
        self._note_command(move, "intake")
        message_id = new_id()
        road = self._road_of(move)
        if road is not None:
            self._sent[message_id] = road
        command = move.command
        key = getattr(command, "order_id", None) or message_id
        attributes = Attributes(
            id=message_id,
            type=command.TYPE,
            version=command.VERSION,
            source="/partner",
            time=await clock.now(self.stand.conn),
            subject=str(key),
            tenant_id=move.actor.tenant_id,
        )
        topic, headers = f"{move.service}.intake", headers_of(attributes)
        body = body_of(command)
        self.log.append(topic, partition_of(key), str(key).encode(), body, headers)

    async def advance(self, by: timedelta) -> None:
        """Time passes."""
        await clock.step(self.stand.conn, await self.now() + by)

    async def now(self) -> datetime:
        """The clock of all services."""
        return await clock.now(self.stand.conn)

    async def to_next_due(
        self, within: timedelta = timedelta.max, late: timedelta = timedelta()
    ) -> bool:
        """Jump to the next timer or deadline, or a little past; False when none is due by then."""
        rows = await self.stand.conn.fetch(NEXT_DUE)
        moments = [row["at"] for row in rows if row["at"] is not None]
        if not moments or min(moments) - await self.now() > within:
            return False
        await clock.step(self.stand.conn, min(moments) + late)
        return True

    async def die(self) -> None:
        """Who acted is gone: its partitions are read again from where it had committed."""
        name, worker = self.acting
        self.counts["killed"] += 1
        if worker in self.workers[name]:
            index = self.workers[name].index(worker)
            self.workers[name][index] = await self._start(SERVICES[name])
        self.readers[name].rebalance(self.rng)
        self.calling = [(own, row) for own, row in self.calling if own is not worker]

    async def end_who_stands_still(self) -> bool:
        """A driver may leave out the last record of a log; the watchdog ends such a worker."""
        ended = False
        for name, reader in self.readers.items():
            if await Guard(self.workers[name][0].shell.pool, self._ends).unread():
                reader.rebalance(self.rng)
                self.counts["stood still"] += 1
                ended = True
        return ended

    def _hear(self) -> None:
        for record in self.log.take_fresh():
            if record.topic.startswith("partner.") or record.topic.endswith(".intake"):
                continue
            attributes = attributes_of(record.headers)
            event = registry.parse(attributes.type, attributes.version, record.value or b"")
            if isinstance(event, CommandAnswered):
                road = self._sent.get(event.command_id)
                if road is not None and event.accepted:
                    road.told({"token": event.detail})
            elif isinstance(event, OrderEvent):
                self._tell(event)

    def _tell(self, event: Any) -> None:
        if event.TYPE == "prescription.PrescriptionIssued":
            self._by_id[event.order_id] = self._by_number[event.order.order_number]
        road = self._by_id.get(event.order_id)
        if road is not None:
            road.hear(event)

    def _road_of(self, move: Move) -> Road | None:
        order_id = getattr(move.command, "order_id", None)
        number = getattr(move.command, "order_number", "")
        return self._by_id.get(order_id) if order_id else self._by_number.get(number)

    def _note(self, key: bytes | None, what: str) -> None:
        try:
            order_id = UUID((key or b"").decode())
        except ValueError:
            return
        if order_id in self._by_id:
            self.schedules[order_id].append(what)

    def _note_command(self, move: Move, over: str) -> None:
        order_id = getattr(move.command, "order_id", None)
        if order_id in self._by_id:
            self.schedules[order_id].append(f"{over} {move.command.TYPE}")
