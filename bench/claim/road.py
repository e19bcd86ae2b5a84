"""Claims through price and settle over HTTP, and the bare round trips of the same bytes.

A claim is 1101, 2101, hold, 2102 and capture by claim's own clients: messages built and signed as
the province wants them, within its bounds, answers validated and held against our own arithmetic.
The shell around them (inbox, state, outbox in PostgreSQL) is in `bench.claim.shell`.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any
from uuid import uuid4

import httpx

from schemas.claim import Split
from schemas.values import LinePrice
from services.catalogue import products
from services.claim.book import book
from services.claim.domain.checking import Bill, compare
from services.claim.nhsa import edge
from services.claim.nhsa.isolation import Areas
from services.kit import outbound
from services.kit.decision import CallOutcome
from services.local import ports

AREAS = tuple(f"990{n:03}" for n in range(101, 141))
AT = "2026-03-02T04:00:00+00:00"
CONNECTIONS_MAX, TIMEOUT_S, READY_S_MAX = 64, 5.0, 90.0
WARM, TRIPS, ROUNDS = 100, 5, 3
PERSON = {"person_name": "Synthetic", "certificate_number": "1"}
BOUND = {
    "eligibility": (edge.person_content, edge.take_person),
    "presettle": (edge.sale_content, edge.take_presettlement),
    "settle": (edge.settlement_content, edge.take_settlement),
}
Claimed = Callable[[int], Awaitable[None]]


class Tap:
    """The wire, keeping what was sent so that the control can send the same."""

    def __init__(self, inner: outbound.Client) -> None:
        self.inner = inner
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.keeps = False

    async def post(self, path: str, *, content: bytes, headers: dict[str, str]) -> Any:
        """As the small client does."""
        if self.keeps:
            self.sent.append((path, content, headers))
        return await self.inner.post(path, content=content, headers=headers)


class Clients:
    """Claim's clients over one far side."""

    def __init__(self, wire: outbound.Client, url: str = "") -> None:
        self.wire, self.url = wire, url
        self.tap = Tap(self.wire)
        tapped: Any = self.tap
        line = edge.PayerLine(tapped, Areas())
        persons = edge.Persons(_opened, lambda number: number)
        self.calls = {
            kind: edge.PayerCall(line, persons, kind, content, take, TIMEOUT_S)
            for kind, (content, take) in BOUND.items()
        }
        self._code = next(iter(sorted(products())))

    async def claim(self, number: int) -> None:
        """One claim. Raises AssertionError for an answer that is not what our arithmetic says."""
        order, area = str(uuid4()), AREAS[number % len(AREAS)]
        price = LinePrice(
            line_id=uuid4(), product_code=self._code, quantity=2, unit_price_fen=1_000 + number % 97
        )
        row = price.model_dump(mode="json")
        codes = {"line_id": row["line_id"], "codes": [f"{number:020}", f"{number + 10**9:020}"]}
        request = {
            "payer_area": area,
            "order_number": order,
            "attempt": 1,
            "pharmacy_id": order,
            "fee_at": AT,
            "lines": [row],
            "codes": [codes],
        }
        await self._say("eligibility", request, order)
        priced = await self._say("presettle", request, order)
        _check(area, price, priced)
        hold = {"order_number": order, "attempt": 1, "amount_fen": 1}
        await self._provider("hold", order, hold)
        request["presettlement_id"] = priced["presettlement_id"]
        _check(area, price, await self._say("settle", request, order))
        capture = {"order_number": order, "hold_key": f"{order}:hold:1.1", "amount_fen": 1}
        await self._provider("capture", order, capture)

    async def bare(self, number: int) -> None:
        """The bytes of one claim again, and nothing read of the answers but their status."""
        first = number % WARM * TRIPS
        for path, content, headers in self.tap.sent[first : first + TRIPS]:
            answer = await self.wire.post(path, content=content, headers=headers)
            assert answer.status_code == httpx.codes.OK

    async def _say(self, kind: str, request: dict[str, Any], order: str) -> dict[str, Any]:
        reply = await self.calls[kind].send(request, f"{order}:{kind}:1.1")
        assert reply.outcome is CallOutcome.DONE, reply
        told: dict[str, Any] = dict(reply.response)
        return told

    async def _provider(self, kind: str, order: str, body: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": f"{order}:{kind}:1.1"}
        content = httpx.Request("POST", "http://x", json=body).content
        answer = await self.tap.post(f"/v1/{kind}", content=content, headers=headers)
        assert answer.status_code == httpx.codes.OK


async def _opened(request: Any) -> dict[str, str]:
    # A voucher is good for one purchase.
    return PERSON | {"token": f"EV-{request['order_number']}"}


def _check(area: str, price: LinePrice, told: dict[str, Any]) -> None:
    bill, split = Bill.model_validate(told["bill"]), Split.model_validate(told["split"])
    compared = compare(book(), area, [price], bill, split)
    assert compared is not None, area
    assert not compared.differs, compared


async def rates(claims: int, at_once: int) -> dict[str, Any]:
    """Ours and bare, in turns against one far side that answers at once."""
    async with far_side(0) as clients:
        for number in range(WARM):
            await clients.claim(number)
        ours, bare = [], []
        cpu_s = {"ours": 0.0, "bare": 0.0}
        for _ in range(ROUNDS):
            clients.tap.sent.clear()
            clients.tap.keeps = False
            began = time.process_time()
            ours.append(await rate(clients.claim, claims, at_once))
            cpu_s["ours"] += time.process_time() - began
            clients.tap.keeps = True
            for number in range(WARM):
                await clients.claim(number)
            began = time.process_time()
            bare.append(await rate(clients.bare, claims, at_once))
            cpu_s["bare"] += time.process_time() - began
    ours_per_s, bare_per_s = median(ours), median(bare)
    return {
        "claims_per_s": round(ours_per_s, 1),
        "bare_per_s": round(bare_per_s, 1),
        "ratio": round(ours_per_s / bare_per_s, 3),
        "cpu_ms_a_claim": {
            name: round(1000 * spent / claims / ROUNDS, 2) for name, spent in cpu_s.items()
        },
        "round_trips_a_claim": TRIPS,
        "claims": claims,
        "at_once": at_once,
    }


async def steady(per_s: float, seconds: float, latency_ms: float) -> dict[str, Any]:
    """Claims that come at a steady rate, whoever waits; how many are open, and for how long."""
    async with far_side(latency_ms) as clients:
        for number in range(WARM // 4):
            await clients.claim(number)
        open_now, took, seen, failed = 0, [], [], 0

        async def one(number: int, due: float) -> None:
            nonlocal open_now, failed
            open_now += 1
            try:
                await clients.claim(number)
                took.append(time.monotonic() - due)
            except Exception:
                failed += 1
            finally:
                open_now -= 1

        began, tasks = time.monotonic(), []
        for number in range(int(per_s * seconds)):
            due = began + number / per_s
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(one(number, due)))
            seen.append(open_now)
        await asyncio.gather(*tasks)
    return {
        "per_s": per_s,
        "seconds": seconds,
        "latency_ms": latency_ms,
        **queue(seen, took),
        "failed": failed,
    }


def queue(seen: Sequence[int], took_s: Sequence[float]) -> dict[str, float]:
    """How many were open in the middle third and in the last, and how long each was."""
    third = len(seen) // 3
    middle, late, waits = sorted(seen[third : 2 * third]), sorted(seen[2 * third :]), sorted(took_s)
    return {
        "open_mid": middle[len(middle) // 2],
        "open_end": late[len(late) // 2],
        "p50_ms": round(1000 * waits[len(waits) // 2], 1),
        "p99_ms": round(1000 * waits[int(len(waits) * 0.99)], 1),
    }


async def rate(work: Claimed, claims: int, at_once: int) -> float:
    """Claims a second, so many at once."""
    numbers = iter(range(claims))

    async def one() -> None:
        for number in numbers:
            await work(number)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return claims / (time.perf_counter() - began)


@asynccontextmanager
async def far_side(latency_ms: float) -> AsyncIterator[Clients]:
    """A process of its own, ready."""
    port = ports.pick(set())
    command = (sys.executable, "-P", "-m", "bench.claim.far", str(port), str(latency_ms))
    process = await asyncio.create_subprocess_exec(*command)
    async with AsyncExitStack() as stack:
        stack.callback(process.terminate)
        url = f"http://{ports.HOST}:{port}"
        clients = Clients(outbound.client(url, CONNECTIONS_MAX, TIMEOUT_S), url)
        stack.push_async_callback(clients.wire.aclose)
        async with asyncio.timeout(READY_S_MAX):
            while True:
                try:
                    await clients.wire.get("/openapi.json")
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
        yield clients
    await process.wait()
