"""Eight durable steps on DBOS: each step's result of 700 bytes is stored before the next begins.

Runs in the peers' own environment: `dbos_steps.py DSN FOLDER SECONDS IN_FLIGHT`.
"""

import asyncio
import json
import resource
import sys
import time
import uuid
from importlib.metadata import version
from typing import Any

from dbos import DBOS

HOPS = 8
MESSAGE_BYTES = 700
WARM_S = 5.0


@DBOS.step()
async def hop(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "id": str(uuid.uuid4()), "hop": body["hop"] + 1}


@DBOS.workflow()
async def lifecycle(body: dict[str, Any]) -> int:
    for _ in range(HOPS):
        body = await hop(body)
    reached: int = body["hop"]
    return reached


def first() -> dict[str, Any]:
    body = {"id": str(uuid.uuid4()), "key": str(uuid.uuid4()), "hop": 0, "pad": ""}
    body["pad"] = "x" * (MESSAGE_BYTES - len(json.dumps(body)))
    return body


async def run(seconds: float, in_flight: int) -> dict[str, Any]:
    ended = 0
    stop = time.monotonic() + WARM_S + seconds

    async def keep_one() -> None:
        nonlocal ended
        while time.monotonic() < stop:
            handle = await DBOS.start_workflow_async(lifecycle, first())
            await handle.get_result()
            ended += 1

    workers = [asyncio.create_task(keep_one()) for _ in range(in_flight)]
    await asyncio.sleep(WARM_S)
    before, began, cpu = ended, time.monotonic(), processor_s()
    await asyncio.sleep(seconds)
    done, spent, used = ended - before, time.monotonic() - began, processor_s() - cpu
    await asyncio.gather(*workers)
    return {
        "per_s": round(done / spent, 1),
        "seconds": round(spent, 2),
        "cpu_s": round(used, 2),
        "in_flight": in_flight,
        "versions": {"dbos": version("dbos")},
    }


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    dsn, _, seconds, in_flight = sys.argv[1:]
    DBOS(
        config={
            "name": "peers",
            "system_database_url": dsn.replace("postgresql://", "postgresql+psycopg://"),
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        print(json.dumps(asyncio.run(run(float(seconds), int(in_flight)))))
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
