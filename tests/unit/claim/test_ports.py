"""What claim sends to payer and provider, and how it reads what comes back."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from schemas.values import Voucher
from services.claim import ports
from services.claim.domain import HANDLERS
from services.claim.domain.answers import DONE, REFUSED, UNKNOWN
from services.kit.calls import CallRow, CallUnknown, Reply
from services.kit.config import Settings
from services.kit.decision import CallOutcome
from services.kit.vault import VaultError
from tests.unit.claim import story as s
from tests.unit.claim.story import Story

VOUCHER = Voucher(token="EV-1", person_name="Synthetic", certificate_number="000000000000000001")
ORDER = "01950000-0000-7000-8000-000000000001"
KEY = f"{ORDER}:settle:1.1"


class FakeVault:
    """Opens everything, or nothing for a reason."""

    def __init__(self, code: Any = None) -> None:
        self._code = code

    def open_kept(self, sealed: Any, model: Any) -> None:
        """No key is kept."""

    async def open(self, conn: Any, sealed: Any, model: Any) -> Voucher:
        if self._code:
            raise VaultError(self._code, "for the test")
        assert sealed.ciphertext == s.SEALED.ciphertext
        return VOUCHER

    def blind(self, text: str) -> str:
        return f"blind-{len(text)}"


class FakePool:
    """Hands out no connection at all."""

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[None]:
        yield None


Answer = Callable[[httpx.Request], httpx.Response]


def callers(monkeypatch: pytest.MonkeyPatch, answer: Answer, code: str | None = None) -> Any:
    """All clients, with the wire cut behind them."""

    def client(base_url: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=base_url, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(ports, "_client", client)
    vault: Any = FakeVault(code)
    pool: Any = FakePool()
    return ports.callers(Settings(), vault, pool)


def requests() -> dict[str, Any]:
    """The request of each kind of call, as the domain really makes it."""
    found = {}
    stories = (
        Story().apply(s.approved()),
        s.authorised().apply(s.assigned()),
        s.authorised().apply(s.assigned()).answer("presettle"),
        s.priced().apply(s.sealed()).unknown("settle"),
        s.priced().apply(s.failed()),
        s.priced().apply(s.sealed()),
        s.priced().apply(s.sealed()).answer("settle"),
        s.settled().apply(s.returned()),
        s.settled().apply(s.returned()).answer("undo"),
    )
    for story in stories:
        call = story.calls[0]
        found[call.kind] = json.loads(json.dumps(call.request))
    return found


async def check(
    monkeypatch: pytest.MonkeyPatch, kind: str, response: httpx.Response, expected: Any
) -> None:
    """One reply to one kind of call, sent and queried alike."""
    call = callers(monkeypatch, lambda request: response)[kind]
    for ask in (call.send, call.query):
        if expected is CallUnknown:
            with pytest.raises(CallUnknown):
                await ask(requests()[kind], KEY)
        else:
            assert await ask(requests()[kind], KEY) == expected


PROVIDER = ("hold", "capture", "release", "refund")


def reply(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def test_every_call_of_the_domain_has_a_client_and_every_client_a_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients = callers(monkeypatch, lambda request: reply(result="done"))
    assert set(clients) == set(requests()) == set(DONE) == set(REFUSED) == set(UNKNOWN)
    assert HANDLERS


async def test_what_is_sent_to_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Idempotency-Key"] == KEY
        seen[request.url.path] = json.loads(request.content)
        return reply(result="refused", code="no")

    for kind, call in callers(monkeypatch, answer).items():
        if kind in PROVIDER:
            await call.send(requests()[kind], KEY)
    assert {path: set(body) for path, body in seen.items()} == {
        "/v1/hold": {"order_number", "attempt", "amount_fen"},
        "/v1/capture": {"order_number", "hold_key", "amount_fen"},
        "/v1/release": {"order_number", "hold_key"},
        "/v1/refund": {"order_number", "hold_key"},
    }
    assert seen["/v1/capture"]["hold_key"] == f"{ORDER}:hold:1.1"


def test_another_calls_key_is_made_as_the_shell_makes_it() -> None:
    row = CallRow(1, uuid4(), uuid4(), "hold", "2.1", {}, 1, 1)
    own = CallRow(2, row.order_id, row.tenant_id, "release", "2.1", {}, 1, 1)
    assert ports.key_of(own.key, "hold", "2.1") == row.key


async def test_it_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    await check(monkeypatch, "hold", reply(result="done", more="ignored"), Reply(CallOutcome.DONE))


async def test_a_business_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    response = reply(result="refused", code="not_paid", message="no money")
    told = {"code": "not_paid", "message": "no money"}
    await check(monkeypatch, "hold", response, Reply(CallOutcome.REFUSED, told))


@pytest.mark.parametrize("body", [{"result": "refused"}, {"result": "perhaps"}, []])
async def test_a_reply_that_cannot_be_trusted_is_no_outcome(
    monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    await check(monkeypatch, "hold", httpx.Response(200, json=body), CallUnknown)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 429, 500, 502, 503, 504])
async def test_a_status_that_says_nothing(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    call = callers(monkeypatch, lambda request: httpx.Response(status, text="no"))["hold"]
    with pytest.raises(CallUnknown):
        await call.send(requests()["hold"], KEY)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_status_that_refuses(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    call = callers(monkeypatch, lambda request: httpx.Response(status, text="no"))["hold"]
    told = {"code": f"http_{status}", "message": "no"}
    assert await call.send(requests()["hold"], KEY) == Reply(CallOutcome.REFUSED, told)


async def test_a_query_for_what_never_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    call = callers(monkeypatch, lambda request: httpx.Response(404))["hold"]
    assert await call.query({}, KEY) is None


async def test_a_lost_connection_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    call = callers(monkeypatch, lost)["hold"]
    for ask in (call.send, call.query):
        with pytest.raises(CallUnknown):
            await ask(requests()["hold"], KEY)


async def test_an_erased_voucher_is_a_refusal_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing may be sent")

    call = callers(monkeypatch, never, "erased")["eligibility"]
    answer = await call.send(requests()["eligibility"], KEY)
    assert (answer.outcome, answer.response["code"]) == (CallOutcome.REFUSED, "voucher_unreadable")


async def test_a_vault_that_fails_for_our_own_fault_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = callers(monkeypatch, lambda request: reply(result="done"), "not_allowed")["eligibility"]
    with pytest.raises(VaultError):
        await call.send(requests()["eligibility"], KEY)
