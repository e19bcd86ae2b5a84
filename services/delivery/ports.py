"""The port for couriers of another make: what delivery tells a fleet, and over which wire.

A fleet that reads its feed needs nothing here, as the sandbox's own does. One that is to be called
stands in `fleets.json` beside the tenants file, with the adapter that speaks to it. Whatever a
fleet does comes back as the commands of a courier, with its own token.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.delivery.domain.fleets import CANCEL, JOB
from services.kit import outbound
from services.kit.calls import Caller, CallUnknown, Reply
from services.kit.config import Settings
from services.kit.decision import CallOutcome
from services.kit.flaws import first_flaw
from services.kit.tenants import Tenants
from services.kit.vault import Vault

FILE, ADAPTERS, HTTP = "fleets.json", "yaoda.fleets", "http"
TIMEOUT_S = 5.0
CONNECTIONS_MAX = 16
# No order waits for a fleet's answer, so a call that its process left behind may wait for a lease.
POLL_S = 15.0
# The far side read the request and says no. Any other code may be a gateway's: unknown.
REFUSING = frozenset({400, 404, 409, 410, 413, 422})
SIGNATURE = "Yaoda-Signature"

Request = Mapping[str, Any]


class FleetsError(ValueError):
    """The fleets file cannot be used; the text names the file and the field, no secret."""


class Fleet(Protocol):
    """One outside fleet. Each may be called again with the same key, which then changes nothing."""

    async def offer(self, job: Request, key: str) -> Reply:
        """Tell of a parcel to fetch. Raises CallUnknown when it may or may not have heard."""
        ...

    async def withdraw(self, job: Request, key: str) -> Reply:
        """Tell that it is not to be fetched any more. Raises CallUnknown likewise."""
        ...

    async def known(self, key: str) -> Reply | None:
        """What it made of an earlier call, None for nothing. Raises CallUnknown."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


class Entry(BaseModel):
    """One fleet of the file; what else stands there is for its adapter."""

    model_config = ConfigDict(extra="allow", frozen=True)

    tenant: Annotated[str, Field(min_length=1)]
    adapter: str = HTTP


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fleets: tuple[Entry, ...]


class _HttpEntry(BaseModel):
    model_config = ConfigDict(extra="ignore")

    url: Annotated[str, Field(pattern=r"^http://\S+$")]
    secret: Annotated[str, Field(min_length=16)]


class HttpFleet:
    """Jobs as signed HTTP requests to the fleet's own address."""

    def __init__(self, url: str, secret: str) -> None:
        self._client: outbound.Client = outbound.client(url, CONNECTIONS_MAX, TIMEOUT_S)
        self._secret = secret.encode()

    async def offer(self, job: Request, key: str) -> Reply:
        """`POST /jobs`."""
        return await self._post("/jobs", job, key)

    async def withdraw(self, job: Request, key: str) -> Reply:
        """`POST /jobs/cancel`."""
        return await self._post("/jobs/cancel", job, key)

    async def known(self, key: str) -> Reply | None:
        """`GET /calls/{key}`: 200 as it was done, 404 where nothing is known."""
        path = f"/calls/{quote(key, safe='')}"
        try:
            answer = await self._client.get(path, headers={SIGNATURE: self._signed(key, path, b"")})
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code != httpx.codes.OK:
            raise CallUnknown(f"HTTP {answer.status_code}")
        return Reply(CallOutcome.DONE)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _post(self, path: str, job: Request, key: str) -> Reply:
        body = orjson.dumps(job)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            SIGNATURE: self._signed(key, path, body),
        }
        try:
            answer = await self._client.post(path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if httpx.codes.is_success(answer.status_code):
            return Reply(CallOutcome.DONE)
        if answer.status_code in REFUSING:
            return Reply(CallOutcome.REFUSED, {"code": f"http_{answer.status_code}"})
        raise CallUnknown(f"HTTP {answer.status_code}")

    def _signed(self, key: str, path: str, body: bytes) -> str:
        return signature(self._secret, key, path, body)


def signature(secret: bytes, key: str, path: str, body: bytes) -> str:
    """HMAC-SHA-256 in hex over key, path and body, one line each: whoever knows it is us."""
    told = b"\n".join((key.encode(), path.encode(), body))
    return hmac.new(secret, told, hashlib.sha256).hexdigest()


def http_fleet(entry: Mapping[str, Any]) -> HttpFleet:
    """From the entry's `url` and `secret`. Raises ValidationError."""
    found = _HttpEntry.model_validate(entry)
    return HttpFleet(found.url, found.secret)


Fleets = Mapping[UUID, Fleet]


def read(settings: Settings) -> dict[UUID, Fleet]:
    """The fleets that are to be called, by tenant. Raises FleetsError."""
    file = settings.tenants_file.parent / FILE
    return {
        tenant: _made(entry, f"{file}: fleets.{number}", file)
        for number, (tenant, entry) in enumerate(_named(settings, file).items())
    }


def _named(settings: Settings, file: Path) -> dict[UUID, Entry]:
    """The entries of the file by the tenant that each names, as they stand there."""
    if not file.exists():
        return {}
    try:
        entries = _File.model_validate_json(file.read_bytes()).fleets
    except ValidationError as error:
        field, said = first_flaw(error)
        raise FleetsError(f"{file}: {field}: {said}") from None
    couriers = {
        one.name: one.tenant_id for one in Tenants.load(settings.tenants_file).of_kind("courier")
    }
    named: dict[UUID, Entry] = {}
    for number, entry in enumerate(entries):
        where = f"{file}: fleets.{number}"
        if entry.tenant not in couriers:
            raise FleetsError(f"{where}.tenant: no courier fleet is called {entry.tenant!r}")
        if couriers[entry.tenant] in named:
            raise FleetsError(f"{where}.tenant: {entry.tenant!r} stands there twice")
        named[couriers[entry.tenant]] = entry
    return named


def _made(entry: Entry, where: str, file: Path) -> Fleet:
    offered: dict[str, Callable[[], Callable[[Mapping[str, Any]], Fleet]]] = {
        one.name: one.load for one in entry_points(group=ADAPTERS)
    }
    offered[HTTP] = lambda: http_fleet
    if entry.adapter not in offered:
        known = ", ".join(sorted(offered))
        said = f"no adapter {entry.adapter!r} is installed; there is {known}"
        raise FleetsError(f"{where}.adapter: {said}")
    try:
        return offered[entry.adapter]()(entry.model_dump())
    except ValidationError as error:
        field, said = first_flaw(error)
        raise FleetsError(f"{where}.{field}: {said}") from None
    except Exception as error:
        # Nobody here knows what another package may raise; its text may hold a secret.
        raise FleetsError(f"{where}.adapter: {type(error).__name__}") from error


@asynccontextmanager
async def open_fleets(settings: Settings, _pool: asyncpg.Pool) -> AsyncIterator[tuple[UUID, ...]]:
    """The tenants that want to be called: what the decisions of this process need to know."""
    yield tuple(sorted(_named(settings, settings.tenants_file.parent / FILE)))


class FleetCall:
    """One kind of call, to whichever fleet the request names."""

    timeout_s = TIMEOUT_S

    def __init__(self, fleets: Fleets, kind: str) -> None:
        self._fleets = fleets
        self._kind = kind

    async def send(self, request: Request, key: str) -> Reply:
        """Make the call. Raises CallUnknown when its outcome is not known."""
        fleet = self._fleets.get(UUID(request["fleet"]))
        if fleet is None:
            return Reply(CallOutcome.REFUSED, {"code": "no_such_fleet"})
        job = {name: value for name, value in request.items() if name != "fleet"}
        return await (fleet.offer(job, key) if self._kind == JOB else fleet.withdraw(job, key))

    async def query(self, request: Request, key: str) -> Reply | None:
        """What the fleet knows of `key`, None for nothing. Raises CallUnknown."""
        fleet = self._fleets.get(UUID(request["fleet"]))
        return None if fleet is None else await fleet.known(key)


def callers(settings: Settings, _vault: Vault, _pool: asyncpg.Pool) -> Mapping[str, Caller]:
    """The clients of this process, by kind of call."""
    fleets = read(settings)
    return {kind: FleetCall(fleets, kind) for kind in (JOB, CANCEL)}
