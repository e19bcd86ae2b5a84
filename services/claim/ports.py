"""The payer and the payment provider: small JSON interfaces over HTTP, one client for each call.

Both answer a call in two levels: the transport's status, and `result` (done or refused) in the
body. Whatever cannot be read as one of the two, a sum that does not add up included, is an
unknown outcome: the shell queries it by its idempotency key, and the domain reverses it.
Personal data is opened for the moment of sending; the stored request holds it sealed.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import asyncpg
import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.values import Sealed, Voucher
from services.claim.domain.checking import Bill
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


class PayerSplit(_Strict):
    """Who bears what, as the payer says, in fen."""

    total_fen: int = Field(ge=0)
    fund_fen: int = Field(ge=0)
    account_fen: int = Field(ge=0)
    cash_fen: int = Field(ge=0)

    def adds_up_to(self, total_fen: int) -> bool:
        """Whether the parts are the total, and the total is ours."""
        parts = self.fund_fen + self.account_fen + self.cash_fen
        return parts == self.total_fen == total_fen


class Priced(Done):
    """A split, with the bill it rests on."""

    split: PayerSplit
    bill: Bill | None = None


class Presettled(Priced):
    """Computed, and kept at the payer for the settlement; no money moved."""

    presettlement_id: str = Field(min_length=1)


class Settled(Priced):
    """The fund and the personal account have paid."""

    settlement_id: str = Field(min_length=1)


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
            async with self._pool.acquire() as conn:
                voucher = await self._vault.open(conn, sealed, Voucher)
        except VaultError as error:
            if error.code in UNREADABLE:
                raise BadVoucher(error.code) from error
            raise
        return voucher.model_dump()


Body = Callable[[Request, str], Awaitable[dict[str, Any]]]
Check = Callable[[Request, Any], bool]


class OutsideCall:
    """One kind of call to one far side."""

    timeout_s = TIMEOUT_S

    def __init__(
        self,
        client: httpx.AsyncClient,
        kind: str,
        body: Body,
        model: type[Done] = Done,
        check: Check = lambda request, reply: True,
    ) -> None:
        self._client = client
        self._path = f"/v1/{kind}"
        self._body = body
        self._check = check
        self._model = model

    async def send(self, request: Request, key: str) -> Reply:
        """Make the call. Raises CallUnknown when its outcome is not known."""
        try:
            body = await self._body(request, key)
        except BadVoucher as error:
            return Reply(CallOutcome.REFUSED, {"code": "voucher_unreadable", "message": str(error)})
        try:
            response = await self._client.post(
                self._path, json=body, headers={"Idempotency-Key": key}
            )
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if response.status_code in REFUSING:
            code = f"http_{response.status_code}"
            return Reply(CallOutcome.REFUSED, {"code": code, "message": response.text[:200]})
        return self._read(request, response)

    async def query(self, request: Request, key: str) -> Reply | None:
        """What the far side knows of `key`, None for nothing. Raises CallUnknown."""
        try:
            response = await self._client.get("/v1/calls", params={"key": key})
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._read(request, response)

    async def close(self) -> None:
        """Let go of the connections, which the calls to one far side share."""
        await self._client.aclose()

    def _read(self, request: Request, response: httpx.Response) -> Reply:
        if response.status_code != httpx.codes.OK:
            raise CallUnknown(f"HTTP {response.status_code}")
        try:
            return self._parse(request, response.content)
        except ValidationError as error:
            where = [".".join(str(part) for part in item["loc"]) for item in error.errors()]
            raise CallUnknown(f"unreadable reply: {', '.join(where)[:200]}") from None

    def _parse(self, request: Request, content: bytes) -> Reply:
        if Head.model_validate_json(content).result == "refused":
            refused = Refused.model_validate_json(content)
            told = {"code": refused.code, "message": refused.message}
            return Reply(CallOutcome.REFUSED, told)
        reply = self._model.model_validate_json(content)
        if not self._check(request, reply):
            raise CallUnknown("the reply does not add up")
        return Reply(CallOutcome.DONE, reply.model_dump(mode="json", exclude={"result"}))


def callers(settings: Settings, vault: Vault, pool: asyncpg.Pool) -> Mapping[str, OutsideCall]:
    """The clients of this process, by kind of call."""
    payer, payment = _client(settings.payer_url), _client(settings.payment_url)
    box = VoucherBox(vault, pool)

    async def person(request: Request, key: str) -> dict[str, Any]:
        names = ("order_number", "payer_area")
        return {name: request[name] for name in names} | await box.open(request)

    async def sale(request: Request, key: str) -> dict[str, Any]:
        names = ("attempt", "pharmacy_id", "fee_at", "lines")
        return await person(request, key) | {name: request[name] for name in names}

    async def settlement(request: Request, key: str) -> dict[str, Any]:
        names = ("presettlement_id", "codes")
        return await sale(request, key) | {name: request[name] for name in names}

    return {
        "eligibility": OutsideCall(payer, "eligibility", person),
        "presettle": OutsideCall(payer, "presettle", sale, Presettled, _adds_up),
        "settle": OutsideCall(payer, "settle", settlement, Settled, _adds_up),
        "undo": OutsideCall(payer, "undo", _fields("order_number", "settlement_id")),
        "reverse": OutsideCall(payer, "reverse", _original),
        "hold": OutsideCall(payment, "hold", _fields("order_number", "attempt", "amount_fen")),
        "capture": OutsideCall(payment, "capture", _of_hold),
        "release": OutsideCall(payment, "release", _of_hold),
        "refund": OutsideCall(payment, "refund", _of_hold),
    }


def key_of(own_key: str, kind: str, ref: str) -> str:
    """The idempotency key of another call of the same order."""
    return f"{own_key.partition(':')[0]}:{kind}:{ref}"


def _client(base_url: str) -> httpx.AsyncClient:
    return outbound.client(base_url, CONNECTIONS_MAX, TIMEOUT_S)


def _fields(*names: str) -> Body:
    async def body(request: Request, key: str) -> dict[str, Any]:
        return {name: request[name] for name in names}

    return body


async def _original(request: Request, key: str) -> dict[str, Any]:
    original = key_of(key, request["original_kind"], request["original_ref"])
    return {"order_number": request["order_number"], "original_key": original}


async def _of_hold(request: Request, key: str) -> dict[str, Any]:
    body = {
        "order_number": request["order_number"],
        "hold_key": key_of(key, "hold", request["hold_ref"]),
    }
    amount = request.get("amount_fen")
    return body if amount is None else {**body, "amount_fen": amount}


def _adds_up(request: Request, reply: Priced) -> bool:
    total = sum(line["unit_price_fen"] * line["quantity"] for line in request["lines"])
    return reply.split.adds_up_to(total)
