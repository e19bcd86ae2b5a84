"""A voucher that is another person's, or used: the patient brings another token, live."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from schemas.claim import AnswerAsk
from schemas.values import Order, Purpose, Voucher
from services.claim.domain.state import Phase, State
from tests.databases import Database
from tests.integration.claim.harness import CANARY, Claim, calm, claim_on

pytestmark = pytest.mark.live


@pytest.fixture
async def claim(database: Database) -> AsyncIterator[Claim]:
    async with claim_on(database, calm()) as running:
        yield running


async def presented(claim: Claim, token: str, certificate: str) -> Order:
    """An order whose voucher has this token, approved."""
    order = await claim.order(certificate)
    voucher = Voucher(token=token, person_name=CANARY, certificate_number=certificate)
    async with claim.sealer.acquire() as conn:
        vault = claim.shell.vault
        sealed = await vault.seal(conn, order.order_id, Purpose.PAYER, voucher)
    order = order.model_copy(update={"voucher": sealed})
    await claim.approve(order)
    return order


async def renew(claim: Claim, state: State, order_id: UUID, token: str) -> httpx.Response:
    assert state.ask is not None
    command = AnswerAsk(
        order_id=order_id,
        ask_id=state.ask.ask_id,
        answer="new_voucher",
        voucher_token=token,
    )
    headers = {"Authorization": f"Bearer {claim.tokens['hospital-a']}"}
    body = command.model_dump(mode="json")
    return await claim.client.post("/v1/asks/answer", json=body, headers=headers)


async def kept(claim: Claim) -> str:
    """All that claim has stored and told."""
    texts = [
        "SELECT state::text AS text FROM state",
        "SELECT concat(request, response) AS text FROM call",
        "SELECT convert_from(body, 'UTF8') AS text FROM outbox",
    ]
    found = [row["text"] for sql in texts for row in await claim.shell.pool.fetch(sql)]
    return " ".join(found)


async def test_another_persons_and_a_used_voucher_are_replaced(claim: Claim) -> None:
    # Given an order of one person, and one of another under the same token
    first = await presented(claim, "EV-canary-1", "CANARY-first")
    await claim.until(first.order_id, lambda state: state.phase is Phase.OPEN)
    order = await presented(claim, "EV-canary-1", "CANARY-second")
    key = order.order_id
    state = await claim.until(key, lambda state: state.ask is not None)
    assert state.ask is not None
    assert (state.ask.kind, state.ask.options) == ("voucher", ("new_voucher", "cancel"))
    # When the patient brings one that was used for another purchase, they are asked again
    other = await presented(claim, "EV-canary-2", "CANARY-second")
    await claim.until(other.order_id, lambda state: state.phase is Phase.OPEN)
    assert (await renew(claim, state, key, "EV-canary-2")).status_code == 200
    state = await claim.until(key, lambda state: state.vouchers == 2 and state.ask is not None)
    told = await kept(claim)
    assert "token_of_another" in told
    assert "token_used" in told
    # And with one of their own the order goes on, insured
    assert (await renew(claim, state, key, "EV-canary-3")).status_code == 200
    state = await claim.until(key, lambda state: state.phase is Phase.OPEN)
    assert state.basis == "insured"
    # And no token stands in the clear anywhere
    assert "EV-canary" not in await kept(claim)
