"""`yaoda bench pipeline`: the control, then the product, each on a fresh broker and database.

The report's `ratio` is delivered orders a second over the control's lifecycles a second. A slow
control or a broken invariant leaves no figure, but a sentence.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import uvloop

from bench import peers
from bench.pipeline import batches, past, report
from bench.pipeline.load import DELIVERED, Load, bench_world
from bench.pipeline.report import Measured
from bench.pipeline.ways import Intake, TwoWays
from services.commands.check import check
from services.kit.collector import keep_for_good
from services.local.errors import HomeLocked, LocalError
from services.local.instance import Instance, holder, infrastructure
from services.local.paths import CLONE
from services.local.processes import SERVICES
from services.local.supervisor import System, running
from services.sandbox.fates import Fates
from services.sandbox.loading import LoadFailed, load_network
from services.sandbox.machine import cpu_seconds, machine, versions
from services.sandbox.post import Post, Unanswered
from services.sandbox.profile import PROFILES, Profile, ProfileError, load
from services.sandbox.stage import FeedRefused

# One process each, however many workers the services have.
SINGLE = frozenset({"payer", "payment", "edge"})
CONNECTIONS = 256
PATIENCE_S = 60.0
QUIET_S = 3.0
IDLE_S = 5.0
TURNS = 200_000
WRITTEN = """
SELECT (SELECT sum(xact_commit) FROM pg_stat_database)::bigint AS commits,
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal_bytes
"""


class BenchFailed(LocalError):
    """The benchmark could not be run to its end; the text says why."""

    exit_code = 22


@dataclass(frozen=True)
class Options:
    """What to measure. `home` is wiped before each run."""

    report: Path | None = None
    profile: Path = PROFILES / "bench.toml"
    seed: int = 1
    workers: tuple[int, ...] = (1,)
    orders: int = 2000
    warm: int = 300
    in_flight: int = 400
    rate: float = 50.0
    open_s: float = 20.0
    control_s: float = 15.0
    no_control: bool = False
    past: int = 0
    pruned: int = 0
    home: Path = CLONE / ".yaoda" / "bench"


def main(argv: Sequence[str]) -> int:
    """0 with a figure, 1 without one; raises LocalError with one sentence for a person."""
    options = parse(argv)
    try:
        told = uvloop.run(run(options))
    except (ProfileError, LoadFailed, Unanswered, FeedRefused) as error:
        raise BenchFailed(str(error)) from error
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    if options.report is not None:
        options.report.write_text(text)
    else:
        print(text, end="")
    shown = {key: told[key] for key in ("yaoda_per_s", "bare_per_s", "ratio", "p99_ms")}
    _say(json.dumps(shown))
    for why in told["failed"]:
        _say(why)
    return 1 if told["failed"] else 0


async def run(options: Options) -> dict[str, Any]:
    """The whole report."""
    profile = load(options.profile)
    before = os.getloadavg()
    bare, others = None, None
    if not options.no_control and options.control_s > 0:
        _say("Measuring the control and the peers")
        bare, others = await control(options)
    runs = [await measure(options, profile, workers) for workers in options.workers]
    return {
        **report.report(bare, runs),
        "peers": others,
        "seed": options.seed,
        "profile": profile.name,
        "versions": versions(),
        "machine": {**machine(), "load_before": [round(part, 2) for part in before]},
    }


async def control(options: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """The bare pipeline on a broker and a database of its own, and then the same steps on what
    others build."""
    async with fresh(options.home) as instance:
        said = await bare(instance, options.control_s)
        others = await peers.measure(instance.pg_dsn, options.home, options.control_s)
    return said, others


@asynccontextmanager
async def fresh(home: Path) -> AsyncIterator[Instance]:
    """A broker and a database that have seen nothing."""
    wipe(home)
    async with infrastructure(home) as instance:
        yield instance


async def bare(instance: Instance, seconds: float) -> dict[str, Any]:
    """What the bare pipeline does in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "bench.pipeline.control",
        instance.kafka,
        instance.pg_dsn,
        str(seconds),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CLONE)},
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise BenchFailed(f"The control ended with {process.returncode}.")
    figures: dict[str, Any] = json.loads(said)
    return figures


async def measure(options: Options, profile: Profile, workers: int) -> Measured:
    """One fresh system with so many workers a service, through warm-up, open and closed loop."""
    wipe(options.home)
    env = {
        "SANDBOX_PROFILE": str(options.profile.resolve()),
        "SANDBOX_SEED": str(options.seed),
    }
    simulators = {"payer": env, "payment": env}
    async with running(options.home, processes(workers), env=simulators, progress=_say) as system:
        tokens = json.loads((system.instance.secrets / "tokens.json").read_text())
        fates = Fates(profile, options.seed)
        world = bench_world(profile, options.seed)
        await _enter(system, tokens, world)
        async with Intake(system.kafka, tenant_ids(system)) as intake:
            post = TwoWays(
                system.address("edge"),
                tokens,
                intake,
                patience_s=PATIENCE_S,
                connections=CONNECTIONS,
            )
            run = Run(options, system, Load(world, fates, post), post)
            keep_for_good()
            try:
                return await run.all(workers)
            finally:
                await post.close()


class Run:
    """One system under load."""

    def __init__(self, options: Options, system: System, load: Load, post: TwoWays) -> None:
        self._options = options
        self._system = system
        self._load = load
        self._post = post

    async def all(self, workers: int) -> Measured:
        """Warm-up, open loop, closed loop, and the invariants over all of it."""
        options, load = self._options, self._load
        load.crew.listen()
        try:
            _say(f"Warming up with {options.warm} orders")
            warm = load.draw(options.warm)
            await load.closed(warm, options.in_flight, options.warm * 9 // 10)
            await load.drain()
            latency = await self._open()
            details = await self._closed()
            _say("Waiting until nothing moves")
            details["left_waiting"] = await load.drain()
            details["idle_cores"] = await self._idle()
            _say("Checking the invariants")
            await asyncio.sleep(QUIET_S)
            checked = await check(self._system.home)
            figures = self._figures
            if options.past:
                details["past"] = await self._past(options)
        finally:
            await load.crew.stop()
        broken = [name for name, row in checked["invariants"].items() if not row["ok"]]
        delivered, seconds, cpu_s = figures
        more = {
            **details,
            "commands": dict(self._post.ways),
            "refused": {route: dict(codes) for route, codes in self._post.refused.items()},
            "repeated": dict(self._post.repeated),
            "check": {
                name: {
                    "examined": row["examined"],
                    "detail": row["detail"] if name in broken else "",
                }
                for name, row in checked["invariants"].items()
            },
        }
        return Measured(workers, delivered, seconds, cpu_s, latency, broken, more)

    async def _open(self) -> dict[str, dict[str, float]]:
        options, load = self._options, self._load
        drawn = load.draw(round(options.rate * options.open_s))
        _say(f"Open loop: {len(drawn)} orders at {options.rate:g} a second")
        await load.open(drawn, options.rate)
        await load.drain()
        return load.marks.latency_ms([script.number for script in drawn])

    async def _closed(self) -> dict[str, Any]:
        options, load = self._options, self._load
        ramp = options.in_flight
        drawn = load.draw(options.orders + 2 * ramp)
        _say(f"Closed loop: {options.orders} orders, {options.in_flight} at a time")
        await load.closed(drawn[:ramp], options.in_flight, ramp // 2)
        turns = [turn_ns()]
        before, written = self._cpu_seconds(), await self._written()
        gathered = await batches.read(self._system)
        since, began = time.time(), time.monotonic()
        await load.closed(drawn[ramp:], options.in_flight, options.orders)
        until, seconds = time.time(), time.monotonic() - began
        after = self._cpu_seconds()
        turns.append(turn_ns())
        commits, wal_bytes = (b - a for a, b in zip(written, await self._written(), strict=True))
        outcomes = load.marks.outcomes(since, until)
        spent = {name: after[name] - before.get(name, 0.0) for name in after}
        self._figures = outcomes[DELIVERED], seconds, spent
        return {
            "open_loop": {"rate": options.rate, "orders": round(options.rate * options.open_s)},
            "closed_loop": {
                "orders": options.orders,
                "in_flight": options.in_flight,
                "seconds": round(seconds, 2),
                "outcomes": dict(outcomes),
                "commits_an_order": round(commits / max(1, outcomes.total()), 1),
                "wal_kb_an_order": round(wal_bytes / 1024 / max(1, outcomes.total()), 1),
                "turn_ns": turns,
                "load_average": [round(part, 2) for part in os.getloadavg()],
            },
            "batches": batches.between(
                gathered, await batches.read(self._system), outcomes.total()
            ),
        }

    def _cpu_seconds(self) -> dict[str, float]:
        pids = {row["name"]: row["pid"] for row in self._system.status()}
        return cpu_seconds({**pids, "robots": None})

    async def _past(self, options: Options) -> dict[str, Any]:
        """The closed loop once more as it was, and then with past orders in all tables: what the
        machine gives changes with the hour, so the control runs before and after each."""
        before = await self._beside_control()
        _say(f"Putting {options.past} past orders into the tables")
        loaded = await past.load(self._system.pg_dsn, options.past, options.pruned)
        return {
            "loaded": asdict(loaded),
            "before": before,
            "after": await self._beside_control(),
        }

    async def _beside_control(self) -> dict[str, Any]:
        options, controls = self._options, []
        home = options.home.with_name(f"{options.home.name}-control")

        async def measure_control() -> None:
            if not options.no_control:
                _say("Measuring the control")
                async with fresh(home) as instance:
                    controls.append((await bare(instance, options.control_s))["per_s"])

        await measure_control()
        details = await self._closed()
        await self._load.drain()
        loop = Measured(1, *self._figures, latency_ms={}, broken=[])
        await measure_control()
        return report.beside(loop, controls) | {"closed_loop": details["closed_loop"]}

    async def _idle(self) -> dict[str, float]:
        """Cores that each process takes while nothing moves."""
        before = self._cpu_seconds()
        await asyncio.sleep(IDLE_S)
        after = self._cpu_seconds()
        taken = {name: (after[name] - before.get(name, 0.0)) / IDLE_S for name in after}
        return {name: round(cores, 3) for name, cores in taken.items()}

    async def _written(self) -> tuple[int, int]:
        """Commits and bytes of log of the database so far."""
        conn = await asyncpg.connect(self._system.pg_dsn)
        try:
            row = await conn.fetchrow(WRITTEN)
            assert row is not None, "an aggregate has a row"
            return int(row["commits"]), int(row["wal_bytes"])
        finally:
            await conn.close()


def turn_ns() -> float:
    """Nanoseconds of processor time for a turn of a loop: how much the machine gives just now."""
    total, began = 0, time.thread_time_ns()
    for turn in range(TURNS):
        total += turn
    return round((time.thread_time_ns() - began) / TURNS, 1)


def processes(workers: int) -> list[str]:
    """The processes of one machine with so many workers a service: `dispatch`, `dispatch.1` …"""
    extra = [
        f"{name}.{slot}" for name in SERVICES if name not in SINGLE for slot in range(1, workers)
    ]
    return [*SERVICES, *extra]


def tenant_ids(system: System) -> dict[str, UUID]:
    """By name, as the instance has them."""
    rows = json.loads((system.instance.secrets / "tenants.json").read_text())["tenants"]
    return {row["name"]: UUID(row["tenant_id"]) for row in rows}


async def _enter(system: System, tokens: dict[str, str], world: Any) -> None:
    post = Post(system.address("edge"), tokens, patience_s=PATIENCE_S)
    try:
        _say(f"Entering {len(world.shops)} pharmacies")
        await load_network(post, world)
    finally:
        await post.close()


def wipe(home: Path) -> None:
    """A run begins from nothing. Raises HomeLocked while somebody uses the folder."""
    if home.exists() and (pid := holder(home)):
        raise HomeLocked(f"{home} is in use by process {pid}; let it end first.")
    shutil.rmtree(home, ignore_errors=True)


def parse(argv: Sequence[str]) -> Options:
    """The options of a command line; ends the process with a sentence when they make no sense."""
    parser = argparse.ArgumentParser(prog="yaoda bench pipeline", description=__doc__)
    known = Options()
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--profile", type=Path, default=known.profile, metavar="FILE")
    parser.add_argument("--seed", type=int, default=known.seed)
    parser.add_argument(
        "--workers", type=_workers, default=known.workers, metavar="N[,N…]", help="a service"
    )
    parser.add_argument("--orders", type=_positive, default=known.orders, help="of the closed loop")
    parser.add_argument("--warm", type=_positive, default=known.warm, help="orders before it")
    parser.add_argument("--in-flight", type=_positive, default=known.in_flight)
    parser.add_argument("--rate", type=_above_zero, default=known.rate, help="orders a second")
    parser.add_argument("--open-s", type=_above_zero, default=known.open_s, help="seconds at rate")
    parser.add_argument("--control-s", type=_above_zero, default=known.control_s)
    parser.add_argument("--no-control", action="store_true", help="no ratio, for profiling")
    parser.add_argument(
        "--past", type=_positive, default=known.past, help="orders in the tables, then once more"
    )
    parser.add_argument(
        "--pruned", type=_positive, default=known.pruned, help="so many of them as `prune` leaves"
    )
    parser.add_argument("--home", type=Path, default=known.home, metavar="DIR")
    return Options(**vars(parser.parse_args(list(argv))))


def _workers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
