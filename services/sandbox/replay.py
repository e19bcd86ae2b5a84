"""Sends a day of orders through a fresh system under simulated time, and reports what became of it.

`yaoda replay --orders DIR [--limit N] [--speed X|max] [--seed S] [--profile F] --report F`
"""

import argparse
import asyncio
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from services.local.errors import HomeLocked, LocalError
from services.local.instance import holder
from services.local.paths import CLONE
from services.local.supervisor import System, running
from services.local.timekeeper import Look, Patience, Timekeeper
from services.sandbox.agenda import Agenda, GivenClock
from services.sandbox.crew import Crew
from services.sandbox.days import Day, DayError, read_day
from services.sandbox.expected import Expectation
from services.sandbox.fates import Fates
from services.sandbox.loading import LoadFailed, load_network
from services.sandbox.machine import cpu_seconds, machine, versions
from services.sandbox.pace import Pace
from services.sandbox.post import Post, Unanswered
from services.sandbox.profile import PROFILES, Profile, ProfileError, load
from services.sandbox.robots.hospital import Hospital
from services.sandbox.scripts import Script, inputs, inputs_sha256, scripts_of
from services.sandbox.stage import Book, FeedRefused, Stage
from services.sandbox.tally import Tally, shares
from services.sandbox.world import World, world_of

STUCK_S = 60.0
# A promise that breaks is told, and changes nothing for the robots.
WATCHES = ("promise",)
LINE_S, LINE_S_PLAIN = 1.0, 15.0
# Each look costs the database some milliseconds that the services could use.
PAUSE_S_MIN, PAUSE_S_MAX = 0.012, 0.060
DATA_NOTE = "order times, places and couriers are real; drugs, stock and insurers are drawn"
ASSUMED_NOTE = (
    "opening hours, pharmacists, prices, cold chain (0.6 of pharmacies), radius 3 km, capacity "
    "max(4, twice the observed peak) and everything the profile marks A are assumptions; the day "
    "is replayed on 2026-03-02 at UTC-5; on_time is measured on the first promise of the tier"
)


class ReplayFailed(LocalError):
    """The day could not be brought to its end; the text names what stood still."""

    exit_code = 20


@dataclass(frozen=True)
class Options:
    """What to replay; `speed` None is as fast as can be, `home` is wiped first."""

    orders: Path
    report: Path | None = None
    limit: int | None = None
    speed: float | None = None
    seed: int = 1
    profile: Path = PROFILES / "standard.toml"
    home: Path = CLONE / ".yaoda" / "replay"


def main(argv: list[str]) -> int:
    """The command. Raises LocalError with one sentence for the person who called it."""
    options = _options(argv)
    try:
        report = asyncio.run(replay(options))
    except (DayError, ProfileError, LoadFailed, Unanswered, FeedRefused) as error:
        raise ReplayFailed(str(error)) from error
    _say(f"closed {report['closed']}, on time {report['on_time']}, in {report['real_s']} s")
    return 0 if report["in_flight"] == 0 else 1


async def replay(options: Options) -> dict[str, Any]:
    """Run the day to its end; the report, which is also written to its file."""
    profile = load(options.profile)
    day = read_day(options.orders, options.limit)
    fates = Fates(profile, options.seed)
    world = world_of(day, profile, options.seed)
    scripts = scripts_of(world, fates)
    _wipe(options.home)
    env = {"payer": _simulator_env(options), "payment": _simulator_env(options)}
    async with running(options.home, env=env, progress=_say) as system:
        tokens = json.loads((system.instance.secrets / "tokens.json").read_text())
        # Simulated time stands still until every service has read what there is.
        post = Post(system.address("edge"), tokens, patience_s=STUCK_S, behind_s=0)
        try:
            async with Timekeeper(system.pg_dsn, system.kafka, watches=WATCHES) as keeper:
                book = Book({script.number: script for script in scripts}.get)
                stage = Stage(world, fates, Agenda(), _clock(world), post, book)
                run = Run(system, keeper, stage)
                await run.to_the_end(scripts, options.speed)
                report = await run.report(options, profile, day, scripts)
        finally:
            await post.close()
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def _clock(world: World) -> GivenClock:
    first = world.orders[0].placed_at if world.orders else world.starts
    return GivenClock(min(world.starts, first))


class Run:
    """One replay under way."""

    def __init__(self, system: System, keeper: Timekeeper, stage: Stage) -> None:
        self._system = system
        self._keeper = keeper
        self._stage = stage
        self._tally = Tally()
        self._hospital = Hospital(stage)
        self._crew = Crew(stage, self._hospital, [self._tally])
        self._tenants = _tenant_ids(system)
        self._expected_orders = 0
        self._patience = Patience(STUCK_S)
        self._real_s = 0.0
        self._cpu_s: dict[str, float] = {}
        self._line_at = 0.0
        self._pace = Pace(stage.clock.now(), None)

    async def to_the_end(self, scripts: list[Script], speed: float | None) -> None:
        """Load the network, then step until every order is closed and nothing is planned."""
        started = time.monotonic()
        self._expected_orders = len(scripts)
        start = self._stage.clock.now()
        await self._keeper.simulate(start, speed)
        _say(f"Entering {len(self._stage.world.shops)} pharmacies")
        await load_network(self._stage.post, self._stage.world)
        for script in scripts:
            self._hospital.expect(script)
        self._pace = Pace(start, speed)
        self._crew.listen()
        try:
            await self._step_on()
        finally:
            await self._crew.stop()
            pids = {row["name"]: row["pid"] for row in self._system.status()}
            self._cpu_s = cpu_seconds({**pids, "replay": None})
            self._real_s = time.monotonic() - started

    async def _step_on(self) -> None:
        while True:
            look = await self._settled()
            if self._finished():
                return
            now = self._stage.clock.now()
            timer = look.next_timer
            if timer is None and not len(self._stage.agenda):
                timer = look.next_watch
            step = self._pace.next(self._stage.agenda, timer, now)
            if step is None:
                raise ReplayFailed(
                    f"nothing is due, but {self._open()} orders are not closed: {await self._why()}"
                )
            await asyncio.sleep(self._pace.wait_s(step.to))
            await self._keeper.step(step.to)
            self._set_clock(step.to)
            self._patience = Patience(STUCK_S)
            self._crew.do(step.acts)

    async def _settled(self) -> Look:
        """Do all that is due and wait until nothing is under way anywhere."""
        pause = PAUSE_S_MIN
        while True:
            self._crew.act()
            self._show()
            look = await self._quiet()
            # Only the end waits for what leaves for partners: nobody's time depends on it.
            if not look.pending and not (look.leaving and self._finished()):
                return look
            signs = (
                look.progress,
                look.leaving,
                dict(look.pending),
                self._crew.begun,
                self._heard(),
            )
            if self._patience.spent(signs):
                why = f"{_named(look)}; {await self._why()}"
                raise ReplayFailed(f"nothing moved for {STUCK_S:.0f} s: {why}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, PAUSE_S_MAX)

    async def _quiet(self) -> Look:
        """A look that shows nothing pending only if nothing is, inside or out."""
        begun, doing = self._crew.begun, self._crew.doing
        if doing:
            return Look({"acts under way": doing}, None, 0)
        look = await self._keeper.glance()
        if look.pending:
            return look
        look = await self._keeper.look()
        if look.pending:
            return look
        heads = await self._keeper.feed_heads(self._tenants.values())
        behind = {
            f"feed of {name}": 1
            for name, feed in self._crew.feeds.items()
            if heads.get(self._tenants[name], feed.cursor) != feed.cursor
        }
        due = self._stage.agenda.next_at()
        acts = self._crew.begun - begun + self._crew.doing
        acts += due is not None and due <= self._stage.clock.now()
        pending = {**behind, **({"acts": acts} if acts else {})}
        return replace(look, pending=pending)

    async def _why(self) -> str:
        """What a person would look at first."""
        parked = await self._keeper.parked()
        return f"last heard {self._tally.standing()}, parked {parked or 'nothing'}"

    def _heard(self) -> int:
        return sum(feed.read_entries for feed in self._crew.feeds.values())

    def _finished(self) -> bool:
        return not self._stage.agenda.next_at() and not self._open()

    def _open(self) -> int:
        closed = len(self._hospital.closed) + len(self._hospital.not_taken)
        return self._expected_orders - closed

    def _set_clock(self, at: datetime) -> None:
        assert isinstance(self._stage.clock, GivenClock)
        self._stage.clock.at = at

    def _show(self) -> None:
        terminal = sys.stderr.isatty()
        if time.monotonic() < self._line_at:
            return
        self._line_at = time.monotonic() + (LINE_S if terminal else LINE_S_PLAIN)
        local = self._stage.world.local(self._stage.clock.now())
        counts = self._tally.closed()
        line = (
            f"{local:%a %H:%M:%S} · submitted {self._hospital.submitted}"
            f" of {self._expected_orders} · open {self._hospital.submitted - sum(counts.values())}"
            f" · {' · '.join(f'{name} {count}' for name, count in counts.items())}"
        )
        _say(f"\r\x1b[2K{line}" if terminal else line, end="" if terminal else "\n")

    async def report(
        self, options: Options, profile: Profile, day: Day, scripts: list[Script]
    ) -> dict[str, Any]:
        """Everything that was measured."""
        stage, total = self._stage, len(scripts)
        summary = await stage.post.get("operations", "/v1/summary")
        expected = Expectation(stage.world, stage.fates).count(scripts)
        closed = self._tally.closed()
        actual = {name: closed.get(name, 0) for name in expected}
        wanted, got = shares(expected, total), shares(actual, total)
        return {
            "orders": total,
            "in_flight": int(summary.body.get("in_flight", -1)),
            "closed": closed,
            "on_time": self._tally.on_time(),
            "on_time_as_changed": self._tally.on_time_as_changed(),
            "latency_ms": self._tally.latency_ms(),
            "orders_per_s": round(total / self._real_s, 3),
            "seed": options.seed,
            "profile": profile.name,
            "speed": options.speed or "max",
            "expected": wanted,
            "difference": {name: round(got[name] - wanted[name], 6) for name in wanted},
            "inputs_sha256": inputs_sha256(inputs(stage.world, scripts)),
            "not_taken": self._hospital.not_taken,
            "refused": {route: dict(codes) for route, codes in stage.post.refused.items()},
            "sent": dict(stage.post.sent),
            "repeated": dict(stage.post.repeated),
            "reserve_couriers": self._crew.fleet.roster.reserves,
            "facts": dict(sorted(self._tally.facts.items())),
            "rows": {"label": day.label, **asdict(day.notes)},
            "notes": [DATA_NOTE, ASSUMED_NOTE],
            "steps": self._pace.steps,
            "cpu_s": self._cpu_s,
            "real_s": round(self._real_s, 1),
            "versions": versions(),
            "machine": machine(),
        }


def _tenant_ids(system: System) -> dict[str, Any]:
    rows = json.loads((system.instance.secrets / "tenants.json").read_text())["tenants"]
    return {row["name"]: UUID(row["tenant_id"]) for row in rows}


def _named(look: Look) -> str:
    return ", ".join(f"{what} {count}" for what, count in look.pending.items())


def _simulator_env(options: Options) -> dict[str, str]:
    profile = str(Path(options.profile).resolve())
    return {"SANDBOX_PROFILE": profile, "SANDBOX_SEED": str(options.seed)}


def _wipe(home: Path) -> None:
    if home.exists() and (pid := holder(home)):
        raise HomeLocked(f"{home} is in use by process {pid}; let it end first.")
    shutil.rmtree(home, ignore_errors=True)


def _options(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="yaoda replay", description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=Path, required=True, metavar="DIR")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE")
    parser.add_argument("--limit", type=_positive)
    parser.add_argument("--speed", type=_speed, default=60.0, metavar="X|max")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--profile", type=Path, default=Options.profile, metavar="FILE")
    parser.add_argument("--home", type=Path, default=Options.home, metavar="DIR")
    return Options(**vars(parser.parse_args(argv)))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0, or max")
    return value


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
