"""Whatever a partner sends, no service fails on it: it is answered, or refused by its field."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from schemas.message import Command
from schemas.publish import documents, files
from services.claim import api as claim
from services.claim.app import SERVICE as CLAIM
from services.delivery import api as delivery
from services.delivery.app import SERVICE as DELIVERY
from services.dispatch import api as dispatch
from services.dispatch.app import SERVICE as DISPATCH
from services.kit import dead_letters
from services.kit.ids import new_id
from services.kit.service import Service
from services.network import api as network
from services.network.app import SERVICE as NETWORK
from services.ops import api as ops
from services.ops.app import SERVICE as OPS
from services.prescription import api as prescription
from services.prescription.app import SERVICE as PRESCRIPTION
from services.review import api as review
from services.review.app import SERVICE as REVIEW
from tests.databases import Database
from tests.integration.standing import Standing, stand_still, standing

pytestmark = pytest.mark.live

DOORS: tuple[tuple[Service, APIRouter], ...] = (
    (PRESCRIPTION, prescription.router),
    (REVIEW, review.router),
    (CLAIM, claim.router),
    (NETWORK, network.router),
    (DISPATCH, dispatch.router),
    (DELIVERY, delivery.router),
    (OPS, ops.router),
)
TENANTS = ("operations", "hospital-a", "reviewers", "chain-a", "fleet-a")
# Streams without end, and files that are read row by row.
APART = frozenset({"/v1/stream", "/v1/pharmacies/import"})
NUL = ("\0", "a\0b")
# What stands in a path when something else is odd.
ACTION = "discard"
VALUES: tuple[Any, ...] = (
    *NUL,
    "",
    "\ud800",
    "x" * 70_000,
    "'; --",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999-14:00",
    "9999-12-31T23:59:59.999999Z",
    "00000000-0000-0000-0000-000000000000",
    -1,
    10**30,
    1e308,
    float("nan"),
    True,
    None,
    [],
    {},
    [["\0"]],
    {"\0": "\0", "\ud800": 1},
)
BODIES = (b"", b"{", b"null", b"[]", b"\xff\xfe", b"1e999", b'"\\ud800"', b"[" * 20_000)
ADDRESSES = (*NUL, "", "\ufffe", "-1", "9" * 40, "nan", "x" * 3_000, "2026-13-01", "../..", "%")
FILES = (
    ("text/csv", b"pharmacy_id,product_code,count\n\0,\0,\0\n,,\n"),
    ("text/csv", b"\0\n"),
    ("text/csv", "pharmacy_id,product_code,count\n\ufeff,１２,٣\n".encode()),
    ("application/x-ndjson", b'{"name": "\\u0000"}\n{\n\0\n[]\nnull\n1e999\n'),
    ("application/x-ndjson", b"\xff\n" + b"[" * 20_000),
)
AT_ONCE = 16
NO_MORE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Knock:
    """One odd request; what is odd at `forbidden` must be refused by that name."""

    method: str
    path: str
    body: bytes | None
    odd: str
    forbidden: str = ""


@dataclass
class Knocking:
    """One service's doors, and everything that was wrong behind them."""

    own: Standing
    wrong: list[str] = field(default_factory=list)
    knocks: int = 0

    async def all(self, *routers: APIRouter) -> None:
        """Every route with everything odd in every place."""
        for route in (route for router in routers for route in router.routes):
            if isinstance(route, APIRoute) and route.path not in APART:
                tenant = await self._welcome(route)
                knocks = [*_odd_addresses(route), *_odd_bodies(route)]
                for start in range(0, len(knocks), AT_ONCE):
                    chunk = knocks[start : start + AT_ONCE]
                    await asyncio.gather(*(self._knock(knock, tenant) for knock in chunk))

    async def files(self, path: str) -> None:
        """Files of rubbish."""
        for kind, body in FILES:
            knock = Knock("POST", path, body, f"{kind} {body[:40]!r}")
            await self._knock(knock, "chain-a", {"Content-Type": kind})

    async def _welcome(self, route: APIRoute) -> str:
        """A caller whom the route is for."""
        for tenant in TENANTS:
            headers = self.own.auth(tenant)
            answer = await self.own.client.request(_method(route), route.path, headers=headers)
            if answer.status_code != 403:
                return tenant
        raise AssertionError(f"{route.path} is for nobody")

    async def _knock(self, knock: Knock, tenant: str, more: Mapping[str, str] = NO_MORE) -> None:
        self.knocks += 1
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(new_id()),
            **self.own.auth(tenant),
            **more,
        }
        try:
            answer = await self.own.client.request(
                knock.method, knock.path, content=knock.body, headers=headers
            )
        except Exception as error:
            self._note(knock, f"{type(error).__name__} {error}")
            return
        if answer.status_code == 501:
            assert answer.json()["code"] == "not_offered_yet"
        elif answer.status_code >= 500:
            self._note(knock, f"{answer.status_code} {answer.text}")
        elif answer.status_code >= 400:
            problem = answer.json()
            named = [item["field"] for item in problem["errors"]]
            # A text of a list is named by its list.
            found = any(f"{knock.forbidden}.".startswith(f"{name}.") for name in named)
            if not problem["code"] or (knock.forbidden and not found):
                self._note(knock, f"is not named by {answer.text}")
        elif knock.forbidden:
            self._note(knock, "was taken")

    def _note(self, knock: Knock, what: str) -> None:
        self.wrong.append(f"{knock.method} {knock.path[:80]} {knock.odd}: {what[:300]}")


def _method(route: APIRoute) -> str:
    return min(route.methods or {"GET"})


def _odd_addresses(route: APIRoute) -> Iterator[Knock]:
    method, body = _method(route), b"{}"
    for name in (param.alias for param in route.dependant.path_params):
        for odd in ADDRESSES:
            path = _path(route, {name: odd})
            shown = f"{name} = {odd[:40]!r}"
            yield Knock(method, path, body, shown, "path" if odd in NUL else "")
    for name in (param.alias for param in route.dependant.query_params):
        for odd in ADDRESSES:
            query = f"?{name}={quote(odd)}" + ("" if name == "wait" else "&wait=0")
            shown = f"{name} = {odd[:40]!r}"
            yield Knock(method, _path(route) + query, body, shown, name if odd in NUL else "")


def _path(route: APIRoute, odd: Mapping[str, str] = NO_MORE) -> str:
    path = route.path
    for name in (param.alias for param in route.dependant.path_params):
        usual = ACTION if name == "action" else str(new_id())
        path = path.replace("{" + name + "}", quote(odd.get(name, usual), safe=""))
    return path


def _odd_bodies(route: APIRoute) -> Iterator[Knock]:
    method, params = _method(route), route.dependant.body_params
    if not params:
        return
    for content in BODIES:
        yield Knock(method, _path(route), content, f"body {content[:40]!r}")
    model = params[0].field_info.annotation
    assert isinstance(model, type)
    sample, known = _sample(model), set()
    for place in _places(sample):
        # Fields of one name are read alike wherever they stand.
        values = NUL if place[-1] in known else VALUES
        known.add(place[-1])
        for odd in values:
            content = json.dumps(_with(sample, place, odd)).encode()
            where = ".".join(place)
            shown = f"{where} = {str(odd)[:40]!r}"
            yield Knock(method, _path(route), content, shown, where if odd in NUL else "")


def _sample(model: type) -> dict[str, Any]:
    """A body that the route would read."""
    if issubclass(model, Command):
        body: dict[str, Any] = files.sample(documents.name_of(model))["body"]
        return body
    return {"reason": "a good reason"}


def _places(body: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    items = body.items() if isinstance(body, dict) else enumerate(body)
    for key, value in items:
        yield (*above, str(key))
        if isinstance(value, dict | list):
            yield from _places(value, (*above, str(key)))


def _with(body: Any, place: Sequence[str], odd: Any) -> Any:
    if not place:
        return odd
    first, *rest = place
    if isinstance(body, dict):
        return {**body, first: _with(body[first], rest, odd)}
    return [_with(item, rest, odd) if str(at) == first else item for at, item in enumerate(body)]


@pytest.mark.parametrize(("service", "router"), DOORS, ids=[one.name for one, _ in DOORS])
async def test_no_door_fails_on_anything(
    database: Database, service: Service, router: APIRouter
) -> None:
    await stand_still(database, service.name)
    async with standing(database, service, router) as own:
        knocking = Knocking(own)
        # Dead letters are the same behind every door.
        await knocking.all(router, *([dead_letters.router] if service is OPS else []))
        if service is NETWORK:
            await knocking.files("/v1/pharmacies/import")
    assert knocking.knocks > 50
    assert knocking.wrong == [], "\n".join(knocking.wrong)
