"""One process of one service: faust, HTTP, relay, sweeper and completer on one uvloop."""

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import faust
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI
from faust.contrib.asgi import faust_app_running

from services.kit import dead_letters, fetches, guard, http, telemetry
from services.kit.clock import Ticker
from services.kit.collector import keep_for_good
from services.kit.config import Settings
from services.kit.consumer import keeps_its_group
from services.kit.db import create_pool
from services.kit.handler import Shell
from services.kit.health import Health
from services.kit.http import Gather, Inside
from services.kit.relay import Relay
from services.kit.service import Service
from services.kit.store import SQL
from services.kit.stream import BatchLoop, LogEnds, create_app
from services.kit.tenants import Tenants
from services.kit.timers import Guard, Sweeper
from services.kit.vault import Vault
from services.kit.watchdog import Watchdog

# Each connection has caches and plans of its own to fill.
POOL_MAX = 5
STOP_S_MAX = 8

log = telemetry.logger(__name__)

# A service's own endless work beside the kit's: dispatch's tick.
Worker = Callable[[Shell, Settings, Any], Coroutine[Any, Any, None]]


def main(
    service: Service, routers: Sequence[APIRouter] = (), workers: Sequence[Worker] = ()
) -> None:
    """Run one worker of a service until SIGTERM."""
    settings = Settings()
    telemetry.configure(settings, service.name)
    # faust's consumer has a thread with a loop of its own.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    fetches.lighten()
    app = create_api(service, settings, routers, workers)
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        log_level=logging.WARNING,
        timeout_graceful_shutdown=STOP_S_MAX // 2,
    )
    uvicorn.Server(config).run()


def create_api(
    service: Service,
    settings: Settings,
    routers: Sequence[APIRouter],
    workers: Sequence[Worker] = (),
) -> FastAPI:
    """The ASGI app whose lifespan is the whole service."""
    health = Health(service.name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with _running(service, settings, health, workers) as inside:
                app.state.inside = inside
                health.ready()
                keep_for_good()
                yield
        except Exception as error:
            log.critical("service_failed", error=error)
            raise

    parts = (*routers, dead_letters.router, health.router)
    return http.create_app(f"Yaoda {service.name}", parts, lifespan)


@asynccontextmanager
async def _running(
    service: Service, settings: Settings, health: Health, workers: Sequence[Worker]
) -> AsyncIterator[Inside]:
    async with AsyncExitStack() as stack:
        pool = await create_pool(
            settings, service.name, min_size=2, max_size=POOL_MAX, plan_each=service.searched
        )
        stack.push_async_callback(_close_pool, pool)
        await guard.enter(pool)
        vault = Vault.load(settings.master_key_file)
        tenants = Tenants.load(settings.tenants_file)
        extras = None
        if service.extras is not None:
            extras = await stack.enter_async_context(service.extras(settings, pool))
        shell = Shell(service, pool, vault=vault, tenants=tenants, health=health, extras=extras)
        async with pool.acquire() as conn, conn.transaction():
            # Two workers that begin at once put nothing off twice.
            await conn.execute(SQL["put_off_timers"])
            await conn.execute(SQL["keep_alive"])
        health.set_ping(lambda: pool.fetchval("SELECT 1"))
        app = create_app(settings, service.name)
        loop = BatchLoop(app, shell, health)
        importlib.import_module(f"services.{service.name}.agents").register(app, loop)
        ends = LogEnds(settings, service.name)
        await ends.start()
        stack.push_async_callback(ends.stop)
        await stack.enter_async_context(
            _background(service, settings, shell, app, ends, health, workers)
        )
        await stack.enter_async_context(faust_app_running(app, stop_timeout=STOP_S_MAX))
        log.info("service_up", port=settings.http_port)
        yield Inside(settings, shell, Gather(shell), tenants, vault, extras)


@asynccontextmanager
async def _background(
    service: Service,
    settings: Settings,
    shell: Shell,
    app: faust.App,
    ends: LogEnds,
    health: Health,
    workers: Sequence[Worker],
) -> AsyncIterator[None]:
    def shards() -> frozenset[int]:
        return frozenset(tp.partition for tp in _assignment(app))

    ticker = Ticker(settings, service.name)
    shell.wakes.timers = ticker.subscribe()
    shell.wakes.tick = ticker.subscribe()
    relay = Relay(settings, service.name, shell.wakes.relay, shards, health)
    shell.on_shards = _notifier(shell.pool, relay)
    guard = Guard(shell.pool, ends)
    sweeper = Sweeper(shell, guard, shell.wakes.timers, shards, service.tick_kinds)

    def reading() -> bool:
        return bool(shards()) and not shell.reading_stopped

    watchdog = Watchdog(settings, service.name, shell.pool, guard, lambda: shell.commits, reading)
    await watchdog.enter()
    work: list[Callable[[], Coroutine[Any, Any, None]]] = [relay.run, sweeper.run, ticker.run]
    work += [partial(_watch, app, health), watchdog.run]
    if service.callers is not None:
        callers = service.callers(settings, shell.vault, shell.pool)
        work.append(shell.calling(callers).run)
    work += [partial(worker, shell, settings, shell.extras) for worker in workers]
    tasks = [asyncio.create_task(_fatal(part)) for part in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await watchdog.leave()


async def _fatal(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Endless work that ends is a fault of ours: the supervisor starts the process anew."""
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        log.critical("worker_failed", error=error)
    os._exit(70)


async def _watch(app: faust.App, health: Health) -> None:
    while app.should_stop or keeps_its_group(app):
        health.set_partitions(len(_assignment(app)))
        await asyncio.sleep(0.5)
    raise RuntimeError("the driver looks no longer after this worker's place in its group")


def _assignment(app: faust.App) -> frozenset[Any]:
    try:
        return frozenset(app.consumer.assignment())
    except Exception:
        # Before the consumer is up faust has no assignment to ask for.
        return frozenset()


def _notifier(pool: asyncpg.Pool, relay: Relay) -> Callable[[frozenset[int]], Any]:
    async def notify(shards: frozenset[int]) -> None:
        if shards - relay.owned:
            await pool.execute("SELECT pg_notify($1, '')", relay.channel)

    return notify


async def _close_pool(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), 3)
    except TimeoutError:
        pool.terminate()
