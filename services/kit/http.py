"""HTTP commands beside the agents: authenticated, gathered, applied in batches, answered.

Refusals are RFC 9457 problem documents that name the field.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from schemas.message import Command
from services.kit import clock, telemetry
from services.kit.config import Settings
from services.kit.db import FAULTS, Failure, classify
from services.kit.decision import Actor, Verdict
from services.kit.gather import Full, Gathered
from services.kit.handler import Shell, Unavailable
from services.kit.ids import new_id
from services.kit.service import Idempotency, Incoming, Source
from services.kit.tenants import Tenants
from services.kit.unit import Result
from services.kit.vault import Vault

QUEUE_MAX = 2000

log = telemetry.logger(__name__)


class JsonResponse(JSONResponse):
    """JSON whose times are UTC with a Z, and whose ids may come from the driver."""

    def render(self, content: Any) -> bytes:
        """The driver's UUIDs are a class of their own, which orjson does not know."""
        return orjson.dumps(content, default=str, option=orjson.OPT_UTC_Z)


class Problem(Exception):
    """A refusal with a stable code; becomes application/problem+json."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = [{"field": field, "detail": detail}] if field else []
        self.headers = dict(headers or {})


class Gather:
    """Collects commands while earlier ones are applied, 3 ms when idle."""

    def __init__(self, shell: Shell) -> None:
        self._gathered: Gathered[Incoming, Result] = Gathered(shell.commands, QUEUE_MAX)

    async def send(self, incoming: Incoming) -> Result:
        """The result of one command. Raises Problem 503 when overloaded or without database."""
        try:
            return await self._gathered.put(incoming)
        except Full:
            detail, again = "too many commands wait", {"Retry-After": "1"}
            raise Problem(503, "overloaded", detail, headers=again) from None
        except Unavailable:
            detail, again = "the database is away; nothing was done", {"Retry-After": "2"}
            raise Problem(503, "unavailable", detail, headers=again) from None


@dataclass(frozen=True, slots=True)
class Inside:
    """What a running service shares with its routes; kept in `app.state.inside`."""

    settings: Settings
    shell: Shell
    gather: Gather
    tenants: Tenants
    vault: Vault
    extras: Any


@dataclass(frozen=True, slots=True)
class Door:
    """An authenticated request's way in."""

    actor: Actor
    inside: Inside
    idempotency_key: str | None = None
    # The path where it names what is meant; else the body does.
    place: str = ""
    body: bytes = field(default=b"", repr=False)

    @property
    def pool(self) -> asyncpg.Pool:
        """For reads; writes go through `send`."""
        return self.inside.shell.pool

    @property
    def settings(self) -> Settings:
        """Of this process."""
        return self.inside.settings

    @property
    def vault(self) -> Vault:
        """For routes that show opened personal data."""
        return self.inside.vault

    @property
    def extras(self) -> Any:
        """The service's long-lived things."""
        return self.inside.extras

    async def clock_now(self) -> Any:
        """The time of the clock row."""
        async with self.pool.acquire() as conn:
            return await clock.now(conn)

    async def send(
        self,
        command: Command,
        key: UUID | None = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Apply a command and answer it."""
        result = await self.result(command, key, status=status)
        with_ids = {name: value.format(**result.answer) for name, value in (headers or {}).items()}
        return JsonResponse(dict(result.answer), status, headers=with_ids)

    async def result(
        self, command: Command, key: UUID | None = None, *, status: int = 200
    ) -> Result:
        """Apply a command. Raises Problem when it is refused."""
        message_id = new_id()
        target = key or self.inside.shell.service.key_of(command, message_id)
        incoming = Incoming(
            message_id,
            target,
            self.actor.tenant_id,
            command,
            Source.HTTP,
            self.actor,
            idempotency=self._idempotency(),
        )
        result = await self.inside.gather.send(incoming)
        telemetry.count("commands_total", type=command.TYPE, verdict=result.verdict)
        if result.verdict in (Verdict.INVALID, Verdict.EARLY):
            raise Problem(result.status, result.code or "too_early", result.detail, result.field)
        return result

    def _idempotency(self) -> Idempotency | None:
        if self.idempotency_key is None:
            return None
        digest = hashlib.sha256(self.place.encode() + self.body).hexdigest()
        return Idempotency(self.actor.tenant_id, self.idempotency_key, digest)


def door(*kinds: str, idempotent: bool = False) -> Callable[[Request], Awaitable[Door]]:
    """A dependency: the caller's tenant by its token, of one of these kinds (none: any)."""

    async def enter(request: Request) -> Door:
        inside: Inside = request.app.state.inside
        actor = authenticate(request, inside.tenants)
        if kinds and actor.kind not in kinds:
            raise Problem(403, "forbidden", f"this route is for: {', '.join(kinds)}")
        key = request.headers.get("Idempotency-Key")
        if idempotent and not key:
            raise Problem(
                400, "idempotency_key_missing", "send an Idempotency-Key", "Idempotency-Key"
            )
        if key is not None and len(key) > 200:
            raise Problem(
                400, "idempotency_key_too_long", "at most 200 characters", "Idempotency-Key"
            )
        body = await request.body() if key else b""
        place = request.url.path if request.path_params else ""
        return Door(actor, inside, key, place, body)

    return enter


def authenticate(request: Request, tenants: Tenants) -> Actor:
    """The tenant of the bearer token. Raises Problem 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    actor = tenants.by_token(token.strip()) if scheme.lower() == "bearer" else None
    if actor is None:
        headers = {"WWW-Authenticate": "Bearer"}
        raise Problem(401, "unauthorized", "send a valid bearer token", headers=headers)
    return actor


def create_app(
    title: str, routers: Sequence[APIRouter], lifespan: Lifespan[FastAPI] | None = None
) -> FastAPI:
    """An ASGI app whose every refusal is a problem document; its routes need `state.inside`."""
    app = FastAPI(title=title, version="1", lifespan=lifespan)
    _install_problems(app)
    app.add_middleware(_Storable)
    for router in routers:
        app.include_router(router)
    return app


class _Storable:
    """Refuses what no database holds in an address: the character U+0000."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        where = _unstorable(scope) if scope["type"] == "http" else None
        if where is None:
            await self._app(scope, receive, send)
            return
        errors = [{"field": where, "detail": "must not contain the character U+0000"}]
        detail = f"{where}: {errors[0]['detail']}"
        await problem_response(422, "invalid_input", detail, errors)(scope, receive, send)


def _unstorable(scope: Scope) -> str | None:
    """The first part of the address with that character: `path`, or a parameter's name."""
    if "\0" in scope["path"]:
        return "path"
    if b"%00" not in scope["query_string"]:
        return None
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    found = (name for name, value in pairs if "\0" in name or "\0" in value)
    return next((name.replace("\0", "\ufffd") for name in found), None)


def _install_problems(app: FastAPI) -> None:

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error.status, error.code, error.detail, error.errors, error.headers)

    async def validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"field": _where(item["loc"]), "detail": item["msg"]} for item in error.errors()]
        first = errors[0]
        detail = f"{first['field']}: {first['detail']}"
        return problem_response(422, "invalid_input", detail, errors)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return problem_response(error.status_code, code, str(error.detail), [])

    async def database(request: Request, error: Exception) -> Response:
        if classify(error) is not Failure.PASSING:
            return await crash(request, error)
        log.warning("request_unavailable", error=error)
        headers = {"Retry-After": "2"}
        return problem_response(503, "unavailable", "the database is away", [], headers)

    async def crash(_: Request, error: Exception) -> Response:
        log.error("request_failed", error=error)
        return problem_response(500, "internal_error", "the service failed on this request", [])

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    for kind in FAULTS:
        app.add_exception_handler(kind, database)
    app.add_exception_handler(Exception, crash)


def problem_response(
    status: int,
    code: str,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An RFC 9457 document."""
    title = str(status)
    with suppress(ValueError):
        title = HTTPStatus(status).phrase
    body = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": list(errors),
    }
    return JsonResponse(
        body, status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def _where(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"
