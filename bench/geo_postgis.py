"""A PostGIS of its own for the geo benchmark: every gate in one statement, by order or by batch.

Its tables are kinder than an honest schema: hours are the very moments that the question needs, and
the stock of a pharmacy is one array instead of a row a product.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import shapely

from services.dispatch.domain.city_index import METRES_PER_DEGREE

START_S_MAX = 30.0
NOBODY_USER = 65534
LINES = 4
FAR = 2_000_000_000
INSTALLS = Path("/usr/lib/postgresql")
OPTIONS = {
    "shared_buffers": "512MB",
    "fsync": "off",
    "jit": "off",
    "autovacuum": "off",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
}
SCHEMA = """
CREATE EXTENSION IF NOT EXISTS postgis;
DROP TABLE IF EXISTS raw, pharmacy;
CREATE TABLE raw (city int, number int, lon float8, lat float8, area bytea, opens float8,
    duty float8, designated bool, cold bool, places int, packs int2[]);
"""
BUILD = """
CREATE TABLE pharmacy AS
SELECT city, number, lon, lat, ST_GeomFromWKB(area, 4326) AS area, opens, duty, designated, cold,
    places, packs
FROM raw;
DROP TABLE raw;
CREATE INDEX pharmacy_area ON pharmacy USING gist (area);
VACUUM ANALYZE pharmacy;
"""
# $2 to $10 have an entry an order; a line that is missing asks for no packs of product 1.
ASK = f"""
SELECT asked.row, near.number
FROM unnest($2::int[], $3::float8[], $4::float8[], $5::bool[], $6::bool[], $7::float8[],
        $8::float8[], $9::float8[], $10::int[])
    AS asked (row, lon, lat, insured, cold, closes, stays, scale, first)
CROSS JOIN LATERAL (
    SELECT *, round(sqrt(((p.lon - asked.lon) * asked.scale) ^ 2
        + ((p.lat - asked.lat) * {METRES_PER_DEGREE!r}) ^ 2)) AS metres
    FROM pharmacy AS p
    WHERE p.city = $1
        AND ST_Covers(p.area, ST_SetSRID(ST_MakePoint(asked.lon, asked.lat), 4326))
        AND p.opens >= asked.closes AND p.duty >= asked.stays
    ORDER BY metres, p.number
    LIMIT $13
) AS near
WHERE near.packs[($11::int[])[asked.first]] >= ($12::int[])[asked.first]
    AND near.packs[($11::int[])[asked.first + 1]] >= ($12::int[])[asked.first + 1]
    AND near.packs[($11::int[])[asked.first + 2]] >= ($12::int[])[asked.first + 2]
    AND near.packs[($11::int[])[asked.first + 3]] >= ($12::int[])[asked.first + 3]
    AND (NOT asked.insured OR near.designated)
    AND (NOT asked.cold OR near.cold)
    AND near.places > 0
ORDER BY asked.row, near.metres, near.number
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """What the gates need of one pharmacy, hours as Unix times until which they hold."""

    city: int
    number: int
    lon: float
    lat: float
    area: shapely.Polygon
    opens: float
    duty: float
    designated: bool
    cold: bool
    places: int
    packs: list[int]


@dataclass(frozen=True, slots=True)
class Question:
    """One order; lines are (product from 0, packs)."""

    lon: float
    lat: float
    scale: float
    insured: bool
    cold: bool
    closes: float
    stays: float
    lines: tuple[tuple[int, int], ...]


def install() -> Path | None:
    """The newest Debian installation that has the extension."""
    for folder in sorted(INSTALLS.glob("*"), reverse=True):
        control = Path("/usr/share/postgresql") / folder.name / "extension" / "postgis.control"
        if control.is_file() and (folder / "bin" / "postgres").is_file():
            return folder / "bin"
    return None


class PostGis:
    """A server without durability; raises TimeoutError when it does not come up."""

    def __init__(self, programs: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._folder = Path(tempfile.mkdtemp(prefix="yaoda-postgis-"))
        self._folder.chmod(0o755)
        data = self._folder / "data"
        data.mkdir(0o700)
        self._user = NOBODY_USER if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(data, self._user, self._user)
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        argv: list[Path | str] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "yaoda",
            "--auth=trust",
            "--no-sync",
        ]
        subprocess.run(argv, check=True, user=self._user, cwd=data, **quiet)
        options = [word for key, value in OPTIONS.items() for word in ("-c", f"{key}={value}")]
        where = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={data}"]
        self._server = subprocess.Popen(
            [programs / "postgres", "-D", data, *where, *options],
            user=self._user, cwd=data, **quiet,
        )  # fmt: skip
        self._conn = self._run(self._connected(data))
        self._run(self._conn.execute(SCHEMA))
        self._asks: Any = None

    def __enter__(self) -> "PostGis":
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._conn.close())
        self._server.terminate()
        self._server.wait(START_S_MAX)
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def renew(self) -> None:
        """Empty again, to be filled and built anew."""
        self._run(self._conn.execute(SCHEMA))

    def value(self, query: str, *values: Any) -> Any:
        """The one value that a query finds, None when there is none."""
        return self._run(self._conn.fetchval(query, *values))

    def run(self, query: str, *values: Any) -> None:
        """A statement that finds nothing."""
        self._run(self._conn.execute(query, *values))

    def version(self) -> str:
        """Of the extension."""
        return str(self._run(self._conn.fetchval("SELECT postgis_lib_version()")))

    def cpu_s(self) -> float:
        """Processor seconds that the connection's own process has taken so far."""
        times = psutil.Process(self._conn.get_server_pid()).cpu_times()
        return float(times.user + times.system)

    def add(self, shops: Sequence[Shop]) -> None:
        """Pharmacies of one city."""
        rows = [
            (
                shop.city, shop.number, shop.lon, shop.lat, shapely.to_wkb(shop.area),
                min(shop.opens, FAR), min(shop.duty, FAR), shop.designated, shop.cold,
                shop.places, shop.packs,
            )
            for shop in shops
        ]  # fmt: skip
        self._run(self._conn.copy_records_to_table("raw", records=rows))

    def build(self) -> None:
        """Tables and indexes as they are asked."""
        for statement in BUILD.split(";\n"):
            if statement.strip():
                self._run(self._conn.execute(statement))
        self._run(self._conn.execute("SET plan_cache_mode = force_generic_plan"))
        self._asks = self._run(self._conn.prepare(ASK))

    def ask(self, city: int, questions: Sequence[Question], window: int) -> list[list[int]]:
        """For each order who passes every gate, of the nearest so many; of all where none does."""
        found = self._ask(city, list(enumerate(questions)), window)
        empty = [(n, q) for n, q in enumerate(questions) if n not in found]
        found |= self._ask(city, empty, FAR) if empty else {}
        return [found.get(number, []) for number in range(len(questions))]

    def _ask(
        self, city: int, asked: Sequence[tuple[int, Question]], window: int
    ) -> dict[int, list[int]]:
        products, packs = [], []
        for _, question in asked:
            lines = (*question.lines, *((0, 0),) * LINES)[:LINES]
            products += [product + 1 for product, _ in lines]
            packs += [count for _, count in lines]
        rows = self._run(
            self._asks.fetch(
                city, [number for number, _ in asked], [q.lon for _, q in asked],
                [q.lat for _, q in asked], [q.insured for _, q in asked],
                [q.cold for _, q in asked], [q.closes for _, q in asked],
                [q.stays for _, q in asked], [q.scale for _, q in asked],
                [1 + LINES * at for at in range(len(asked))], products, packs, window,
            )
        )  # fmt: skip
        found: dict[int, list[int]] = {}
        for row, number in rows:
            found.setdefault(row, []).append(number)
        return found

    async def _connected(self, data: Path) -> Any:
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            try:
                return await asyncpg.connect(host=str(data), user="yaoda", database="postgres")
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)
        self._server.terminate()
        raise TimeoutError("postgres did not come up")

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)
