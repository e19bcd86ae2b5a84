"""The stage of the nemesis: a running system, the orders that flow through it, and its judge."""

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka.errors import KafkaError

from schemas import flow
from services.commands.chaos.mail import Dead, Letter, Mailer, letter_of
from services.commands.chaos.wilful import Wilful
from services.commands.check import check
from services.commands.invariants.evidence import Place
from services.commands.invariants.scan import Scan
from services.kit.db import FAULTS, Failure, classify
from services.local.errors import LocalError
from services.local.instance import KAFKA_DETOUR, read_state
from services.local.ports import HOST
from services.local.processes import SERVICES
from services.local.proxy import Proxy, proxy_to
from services.local.supervisor import System, running
from services.local.timekeeper import Patience, Timekeeper
from services.sandbox.agenda import Agenda, RealClock
from services.sandbox.crew import Crew
from services.sandbox.days import scatter
from services.sandbox.loading import load_network
from services.sandbox.post import Post
from services.sandbox.profile import PROFILES, choose, load
from services.sandbox.robots.hospital import Hospital
from services.sandbox.scripts import Script, script_of
from services.sandbox.stage import Book, Stage
from services.sandbox.tally import Tally
from services.sandbox.world import OrderSpec, World, demo_world

PROFILE = PROFILES / "chaos.toml"
ORDERS_A_SECOND = 2.0
# Every so many orders one comes over Kafka instead of HTTP.
BY_LETTER_EVERY = 4
SHOPS, RIDERS = 20, 20
RADIUS_M = 1000.0
TURN_S, LOOK_S, TELL_S = 0.05, 0.2, 15.0
# Longer than a worker is ever stopped: a desk that has not read on is asked for as long.
BEHIND_S = 180.0
# Closed within the first, and never so long without any progress at all.
SETTLED_WITHIN_S, PROGRESS_WITHIN_S = 900.0, 180.0
AWAY_S_MAX, READY_WITHIN_S = 120.0, 600.0
OPEN_MAX, OPEN_MAX_OUTAGE = 200, 10_000
LINKS: Mapping[str, str] = {"broker": KAFKA_DETOUR, "postgres": "postgres", "payer": "payer"}


class Unsettled(LocalError):
    """Something stayed in flight past the bound."""


@dataclass
class Scene:
    """The system under fire; orders, faults and what is seen of both."""

    system: System
    links: Mapping[str, Proxy]
    post: Post
    world: World
    fates: Wilful
    rate: float = ORDERS_A_SECOND
    open_max: int = OPEN_MAX
    progress: Callable[[str], None] = lambda _line: None
    tally: Tally = field(default_factory=Tally)
    scripts: dict[str, Script] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = Book(self.scripts.get)
        stage = Stage(self.world, self.fates, Agenda(), RealClock(), self.post, self.book)
        self.hospital = Hospital(stage)
        self._crew = Crew(stage, self.hospital, [self.tally])
        rows = json.loads((self.system.instance.secrets / "tenants.json").read_text())["tenants"]
        self.tenants = {row["name"]: UUID(row["tenant_id"]) for row in rows}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._keeper_read = 0
        self._outbox: deque[Letter] = deque()
        self.lettered = 0

    @property
    def workers(self) -> tuple[str, ...]:
        """The processes that consume and publish, second workers included."""
        return tuple(n for n in self.system.names if n.partition(".")[0] in flow.SERVICES)

    @asynccontextmanager
    async def robots_at_work(self) -> AsyncIterator[None]:
        """All partners hear their feeds and act."""
        self._crew.listen()
        self._start(self._work())
        self._start(self._mail())
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._crew.stop()

    async def _work(self) -> None:
        while True:
            self._crew.act()
            await asyncio.sleep(TURN_S)

    @asynccontextmanager
    async def orders_flowing(self, first: int = 0) -> AsyncIterator[None]:
        """Within, new orders come in steadily; entered when `first` of them were taken."""
        flowing = self._start(self._flow())
        try:
            enough = self.hospital.submitted + first
            while self.hospital.submitted < enough:
                self.raise_what_failed()
                await asyncio.sleep(TURN_S)
            yield
        finally:
            flowing.cancel()
            await asyncio.gather(flowing, return_exceptions=True)

    async def _flow(self) -> None:
        while True:
            # On a slow machine a backlog without end would only tell of the machine.
            while len(self.open_orders) >= self.open_max:
                await asyncio.sleep(1)
            script = self.new_order()
            if script.spec.ordinal % BY_LETTER_EVERY:
                self.hospital.expect(script)
            else:
                self._outbox.append(letter_of(script, self.tenants[script.hospital]))
            await asyncio.sleep(1 / self.rate)

    async def _mail(self) -> None:
        """Send each letter until it is known to have arrived, perhaps more than once."""
        while True:
            with contextlib.suppress(KafkaError, OSError):
                async with Mailer(self.system.kafka) as mailer:
                    while True:
                        while self._outbox:
                            await mailer.send(self._outbox[0])
                            self._outbox.popleft()
                            self.lettered += 1
                        await asyncio.sleep(TURN_S)
            await asyncio.sleep(1)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._failure = self._failure or task.exception()

    def raise_what_failed(self) -> None:
        """Whatever a robot or a sender ended with."""
        if self._failure is not None:
            raise self._failure

    def new_order(self) -> Script:
        """The next order of the city, known to all robots but not yet submitted."""
        ordinal = len(self.scripts) + 1
        number = f"chaos-{ordinal}"
        spec = OrderSpec(
            number=number,
            ordinal=ordinal,
            city=self.world.code,
            placed_at=datetime.now(UTC),
            door=scatter(self.fates.seed, "door", ordinal, RADIUS_M),
            tier=choose(self.fates.u(number, "tier"), self.fates.profile.orders.tier),
        )
        script = self.scripts[number] = script_of(spec, self.fates)
        return script

    def forget(self, script: Script) -> None:
        """It never becomes an order, so nobody may wait for it."""
        del self.scripts[script.number]

    async def submit(self, script: Script) -> UUID:
        """Hand one order in over HTTP; its id. Raises Unsettled when it is refused."""
        answer = await self.post.command(
            script.hospital, "/v1/prescriptions", script.submit, idempotency_key=script.number
        )
        if answer.status != 202:
            raise Unsettled(f"{script.number} was not taken: {answer.body}")
        order_id = UUID(str(answer.body["order_id"]))
        self.book.learn(order_id, script.number)
        return order_id

    @property
    def open_orders(self) -> set[str]:
        """Numbers of the orders that no hospital has heard to be closed."""
        return self.scripts.keys() - self.book.known(self.hospital.closed)

    async def settled(self, within_s: float = SETTLED_WITHIN_S) -> None:
        """Until every order is closed or parked, and nothing is under way. Raises Unsettled."""
        try:
            async with asyncio.timeout(within_s):
                async with Timekeeper(self.system.pg_dsn, self.system.kafka) as keeper:
                    await self._until_idle(keeper)
        except TimeoutError:
            raise Unsettled(f"not settled: {await self._why()}") from None
        if self.hospital.not_taken:
            raise Unsettled(f"refused at the door: {self.hospital.not_taken}")

    async def _until_idle(self, keeper: Timekeeper) -> None:
        told, patience = time.monotonic(), Patience(PROGRESS_WITHIN_S)
        while await self._busy(keeper):
            if patience.spent((len(self.open_orders), self._keeper_read)):
                raise TimeoutError
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                look = await keeper.look()
                self.progress(f"{len(self.open_orders)} orders open, {dict(look.pending)}")
            await asyncio.sleep(LOOK_S)

    async def _busy(self, keeper: Timekeeper) -> bool:
        self.raise_what_failed()
        if not self._crew.idle:
            return True
        rows = await self.fetch_everywhere(
            "SELECT order_id FROM {schema}.parked WHERE state = 'parked' AND order_id IS NOT NULL"
        )
        parked = {self.book.numbers.get(row["order_id"]) for _, row in rows}
        look = await keeper.look()
        self._keeper_read = look.progress
        return bool(self.open_orders - parked or look.pending)

    async def _why(self) -> str:
        async with Timekeeper(self.system.pg_dsn, self.system.kafka) as keeper:
            look, parked = await keeper.look(), await keeper.parked()
        return (
            f"open {sorted(self.open_orders)}, pending {dict(look.pending)}, parked {parked}, "
            f"last heard {self.tally.standing()}, refused {dict(self.post.refused)}, "
            f"acts under way {self._crew.doing}"
        )

    async def fetch_everywhere(self, sql: str, *values: Any) -> list[tuple[str, asyncpg.Record]]:
        """One query in each service's schema, `{schema}` in it; rows with their service.

        A database that some blow has taken away is waited for.
        """
        end = time.monotonic() + AWAY_S_MAX
        while True:
            try:
                return await self._fetch_everywhere(sql, *values)
            except FAULTS as error:
                if classify(error) is not Failure.PASSING or time.monotonic() > end:
                    raise
            await asyncio.sleep(1)

    async def _fetch_everywhere(self, sql: str, *values: Any) -> list[tuple[str, asyncpg.Record]]:
        conn = await asyncpg.connect(self.system.pg_dsn, timeout=10)
        try:
            return [
                (service, row)
                for service in flow.SERVICES
                for row in await conn.fetch(sql.format(schema=service), *values)
            ]
        finally:
            await conn.close()

    async def send(self, *letters: Letter) -> list[Place]:
        """Put raw records on their topics. Raises what the broker refuses them with."""
        async with Mailer(self.system.kafka) as mailer:
            return [await mailer.send(letter) for letter in letters]

    async def seen_on_topics(self) -> dict[str, Counter[str]]:
        """How often each event id stands on each topic."""
        async with Scan(self.system.kafka, map(str, self.tenants.values())) as scan:
            ends = await scan.ends()
            topics = await scan.read(ends, ends)
        return {
            topic: Counter(seen.id for seen in records if seen.id)
            for topic, records in topics.records.items()
        }

    async def dead_letters(self, places: Iterable[Place]) -> list[Dead]:
        """What services laid aside of these records."""
        wanted = set(places)
        rows = await self.fetch_everywhere(
            "SELECT id, topic, part, record_offset, code, state FROM {schema}.parked"
            " WHERE topic IS NOT NULL"
        )
        found = [_dead(service, row) for service, row in rows]
        return [dead for dead in found if dead.place in wanted]

    async def redrive(self, service: str, message_id: UUID, action: str) -> None:
        """Replay a dead letter or give it up, as the operator does. Raises Unsettled."""
        path = f"/v1/services/{service}/dlq/{message_id}/{action}"
        body = json.dumps({"reason": "put there by the nemesis"}).encode()
        answer = await self.post.raw("operations", path, body)
        # Two faults may have left the same letter: then the other was quicker.
        if not answer.ok and answer.code != "not_parked":
            raise Unsettled(f"{action} of {message_id} at {service}: {answer.body}")

    async def red(self) -> dict[str, Any]:
        """The invariants that do not hold or have examined nothing."""
        report = await check(self.system.home)
        rows = report["invariants"].items()
        return {name: row for name, row in rows if not row["ok"] or row["examined"] == 0}


def _dead(service: str, row: asyncpg.Record) -> Dead:
    place = Place(row["topic"], row["part"], row["record_offset"])
    return Dead(service, row["id"], place, row["code"], row["state"])


@asynccontextmanager
async def scene_in(
    home: Path,
    seed: int,
    doubled: Iterable[str] = (),
    *,
    rate: float = ORDERS_A_SECOND,
    open_max: int = OPEN_MAX,
    progress: Callable[[str], None] = lambda _line: None,
) -> AsyncIterator[Scene]:
    """All services behind proxies, a city whose pharmacies are open, and its robots at work.

    Each service of `doubled` has two workers. `home` must be empty or new.
    """
    names = (*SERVICES, *(f"{service}.1" for service in doubled))
    async with AsyncExitStack() as stack:
        links = {
            name: await stack.enter_async_context(proxy_to(partial(_port, home, port)))
            for name, port in LINKS.items()
        }
        system = await stack.enter_async_context(
            running(
                home,
                names,
                env=_environment(names, links, seed),
                kafka_told=links["broker"].port,
                progress=progress,
                wait=False,
            )
        )
        await system.wait_ready(seconds=READY_WITHIN_S)
        tokens = json.loads((system.instance.secrets / "tokens.json").read_text())
        post = Post(system.address("edge"), tokens, behind_s=BEHIND_S)
        stack.push_async_callback(post.close)
        fates = Wilful(load(PROFILE), seed)
        world = demo_world(fates.profile, seed, shops=SHOPS, riders=RIDERS)
        await load_network(post, world)
        scene = Scene(system, links, post, world, fates, rate, open_max, progress)
        await stack.enter_async_context(scene.robots_at_work())
        yield scene


def _port(home: Path, name: str) -> int:
    """As the instance chose it: a proxy stands before what it leads to."""
    ports: dict[str, int] = read_state(home)["ports"]
    return ports[name]


def _environment(
    names: Iterable[str], links: Mapping[str, Proxy], seed: int
) -> dict[str, dict[str, str]]:
    behind = {
        "YAODA_KAFKA": f"{HOST}:{links['broker'].port}",
        "YAODA_PG_PORT": str(links["postgres"].port),
        "YAODA_PAYER_URL": f"http://{HOST}:{links['payer'].port}",
    }
    outside = {"SANDBOX_PROFILE": str(PROFILE), "SANDBOX_SEED": str(seed)}
    return {name: behind if name.partition(".")[0] in flow.SERVICES else outside for name in names}
