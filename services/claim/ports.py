"""The payer and the payment provider over HTTP, one client for each kind of call.

Both answer in two levels: the transport's status, and done or refused in the body. Whatever cannot
be read as one of the two, a sum that does not add up included, is an unknown outcome: the shell
queries it by its key, and the domain reverses it. The payer's messages are those of `nhsa`.
Personal data is opened for the moment of sending; the stored request holds it sealed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol

import asyncpg
import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.values import Sealed, Voucher
from services.claim.nhsa import edge
from services.kit import outbound
from services.kit.calls import CallUnknown, Reply
from services.kit.config import Settings
from services.kit.decision import CallOutcome
from services.kit.vault import Vault, VaultError

TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64
# The far side could not read the request, so it did not act. Other codes may be a gateway's, and a
# key that was used before (409) may have moved money: these are unknown outcomes.
REFUSING = frozenset({400, 413, 422})
UNREADABLE = frozenset({"erased", "unknown_key", "tampered", "wrong_content"})

Request = Mapping[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Head(_Strict):
    """What every reply begins with."""

    result: Literal["done", "refused"]


class Refused(_Strict):
    """A business refusal."""

    result: Literal["refused"]
    code: str = Field(min_length=1)
    message: str = ""


class Done(_Strict):
    """It was done."""

    result: Literal["done"]


class BadVoucher(Exception):
    """The sealed voucher cannot be opened, and never will be."""


class VoucherBox:
    """Opens sealed vouchers at the moment of sending."""

    def __init__(self, vault: Vault, pool: asyncpg.Pool) -> None:
        self._vault = vault
        self._pool = pool

    async def open(self, request: Request) -> dict[str, str]:
        """Raises BadVoucher when the person's data are erased or broken."""
        sealed: Sealed[Voucher] = Sealed.model_validate(request["voucher"])
        try:
            voucher = self._vault.open_kept(sealed, Voucher)
            if voucher is None:
                async with self._pool.acquire() as conn:
                    voucher = await self._vault.open(conn, sealed, Voucher)
        except VaultError as error:
            if error.code in UNREADABLE:
                raise BadVoucher(error.code) from error
            raise
        return voucher.model_dump()


Body = Callable[[Request, str], Awaitable[dict[str, Any]]]


class Caller(Protocol):
    """A client that is closed at the end."""

    timeout_s: float

    async def send(self, request: Request, key: str) -> Reply:
        """Make the call. Raises CallUnknown when its outcome is not known."""
        ...

    async def query(self, request: Request, key: str) -> Reply | None:
        """What the far side knows of `key`, None for nothing. Raises CallUnknown."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


class OutsideCall:
    """One kind of call to the payment provider."""

    timeout_s = TIMEOUT_S

    def __init__(
        self,
        client: outbound.Client,
        kind: str,
        body: Body,
    ) -> None:
        self._client = client
        self._path = f"/v1/{kind}"
        self._body = body

    async def send(self, request: Request, key: str) -> Reply:
        """Make the call. Raises CallUnknown when its outcome is not known."""
        body = await self._body(request, key)
        try:
            response = await self._client.post(
                self._path, json=body, headers={"Idempotency-Key": key}
            )
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if response.status_code in REFUSING:
            code = f"http_{response.status_code}"
            return Reply(CallOutcome.REFUSED, {"code": code, "message": response.text[:200]})
        return self._read(response)

    async def query(self, request: Request, key: str) -> Reply | None:
        """What the far side knows of `key`, None for nothing. Raises CallUnknown."""
        try:
            response = await self._client.get("/v1/calls", params={"key": key})
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._read(response)

    async def close(self) -> None:
        """Let go of the connections, which the calls to one far side share."""
        await self._client.aclose()

    def _read(self, response: outbound.Response) -> Reply:
        if response.status_code != httpx.codes.OK:
            raise CallUnknown(f"HTTP {response.status_code}")
        try:
            return self._parse(response.content)
        except ValidationError as error:
            where = [".".join(str(part) for part in item["loc"]) for item in error.errors()]
            raise CallUnknown(f"unreadable reply: {', '.join(where)[:200]}") from None

    def _parse(self, content: bytes) -> Reply:
        if Head.model_validate_json(content).result == "refused":
            refused = Refused.model_validate_json(content)
            told = {"code": refused.code, "message": refused.message}
            return Reply(CallOutcome.REFUSED, told)
        Done.model_validate_json(content)
        return Reply(CallOutcome.DONE)


def callers(settings: Settings, vault: Vault, pool: asyncpg.Pool) -> Mapping[str, Caller]:
    """The clients of this process, by kind of call."""
    payment = _client(settings.payment_url)
    return {
        **_payer(_client(settings.payer_url), VoucherBox(vault, pool), vault),
        "hold": OutsideCall(payment, "hold", _fields("order_number", "attempt", "amount_fen")),
        "capture": OutsideCall(payment, "capture", _of_hold),
        "release": OutsideCall(payment, "release", _of_hold),
        "refund": OutsideCall(payment, "refund", _of_hold),
    }


@asynccontextmanager
async def lines(settings: Settings) -> AsyncIterator[tuple[edge.PayerLine, outbound.Client]]:
    """The wires to the payers and to the payment provider, for a statement."""
    line, payment = edge.PayerLine(_client(settings.payer_url)), _client(settings.payment_url)
    try:
        yield line, payment
    finally:
        await line.close()
        await payment.aclose()


def _payer(client: outbound.Client, box: VoucherBox, vault: Vault) -> dict[str, edge.PayerCall]:
    async def opened(request: Request) -> dict[str, str]:
        try:
            return await box.open(request)
        except BadVoucher as error:
            if "settlement_id" in request or "original_kind" in request:
                # What is taken back has to go back, whether or not the person is still known.
                return {}
            raise edge.Refused("voucher_unreadable", str(error)) from error

    line, persons = edge.PayerLine(client), edge.Persons(opened, vault.blind)
    kinds: dict[str, tuple[edge.Content, edge.Take]] = {
        "eligibility": (edge.person_content, edge.take_person),
        "presettle": (edge.sale_content, edge.take_presettlement),
        "settle": (edge.settlement_content, edge.take_settlement),
        "undo": (edge.undo_content, edge.take_undo),
        "reverse": (edge.reversal_content, edge.take_reversal),
    }
    return {
        kind: edge.PayerCall(line, persons, kind, content, take, TIMEOUT_S)
        for kind, (content, take) in kinds.items()
    }


def key_of(own_key: str, kind: str, ref: str) -> str:
    """The idempotency key of another call of the same order."""
    return f"{own_key.partition(':')[0]}:{kind}:{ref}"


def _client(base_url: str) -> outbound.Client:
    return outbound.client(base_url, CONNECTIONS_MAX, TIMEOUT_S)


def _fields(*names: str) -> Body:
    async def body(request: Request, key: str) -> dict[str, Any]:
        return {name: request[name] for name in names}

    return body


async def _of_hold(request: Request, key: str) -> dict[str, Any]:
    body = {
        "order_number": request["order_number"],
        "hold_key": key_of(key, "hold", request["hold_ref"]),
    }
    return body | {name: request[name] for name in ("amount_fen", "left_fen") if name in request}
