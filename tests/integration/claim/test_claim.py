"""The money of an order on a real database, against a payer and a provider over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest

from schemas.message import OrderEvent
from schemas.values import CHINA, Order
from services.claim import ports
from services.claim.domain.notes import UsedUp
from services.claim.domain.state import Phase, State, Step
from services.claim.nhsa import isolation
from services.claim.nhsa.edge import PayerLine
from services.claim.nhsa.exchange import Exchange
from services.claim.sales import Teller
from services.kit import calls, outbound
from services.kit.ids import new_id
from services.sandbox.arithmetic import ZERO
from services.sandbox.insured import loaded, number_of
from tests.databases import Database
from tests.integration.claim.harness import CANARY, Claim, calm, claim_on
from tests.unit.claim import story

T = TypeVar("T", bound=OrderEvent)
pytestmark = pytest.mark.live
TOTAL_FEN = 10_000
# 60 % of class A, past the deductible.
FUND_FEN = 6_000


@pytest.fixture
async def claim(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Claim]:
    monkeypatch.setattr(ports, "TIMEOUT_S", 0.4)
    monkeypatch.setattr(calls, "BACKOFF_S", (0.05,))
    monkeypatch.setattr(calls, "ATTEMPTS_MAX", 2)
    async with claim_on(database, calm()) as running:
        yield running


def of(message: T, order: Order) -> T:
    """The story's message, told of another order."""
    return message.model_copy(update={"order_id": order.order_id})


def at(step: Step) -> Any:
    return lambda state: state.attempt is not None and state.attempt.step is step


def closed(state: State) -> bool:
    return state.phase is Phase.CLOSED


async def priced(claim: Claim, **changes: Any) -> Order:
    order = await claim.order(**changes)
    await claim.approve(order)
    await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
    await claim.tell(claim.assigned(order))
    await claim.until(order.order_id, at(Step.PRICED))
    return order


async def settled(claim: Claim, first: int = 0) -> Order:
    order = await priced(claim)
    await claim.tell(claim.sealed(order, first=first))
    await claim.until(order.order_id, at(Step.SETTLED))
    return order


async def check_home(claim: Claim, order_id: UUID) -> None:
    """Nobody has paid anything, in anybody's books."""
    # But for the courier, whom the platform pays.
    ours = await claim.accounts(order_id)
    assert ours.pop("platform", 0) + ours.pop("courier", 0) == 0
    assert ours == {}
    assert not any((await claim.theirs(order_id)).values())


async def test_the_money_of_a_delivered_order(claim: Claim) -> None:
    order = await settled(claim)
    await claim.tell(of(story.delivered(), order))
    await claim.until(order.order_id, closed)
    assert await claim.published(order.order_id) == [
        "ClaimAuthorised",
        "ClaimPriced",
        "ClaimSettled",
        "OrderClosed",
    ]
    ours, theirs = await claim.accounts(order.order_id), await claim.theirs(order.order_id)
    assert ours["pharmacy"] == TOTAL_FEN
    assert ours["fund"] == -theirs["fund_fen"] == -FUND_FEN
    assert ours.get("personal_account", 0) == -theirs["account_fen"]
    assert ours.get("patient", 0) == -theirs["captured_fen"]
    assert (sum(ours.values()), theirs["held_fen"]) == (0, 0)


async def test_a_returned_parcel_leaves_no_money_anywhere(claim: Claim) -> None:
    order = await settled(claim)
    await claim.tell(of(story.returned(), order))
    await claim.until(order.order_id, closed)
    await check_home(claim, order.order_id)
    shown = (await claim.get(f"/v1/claims/{order.order_id}", "operations")).json()
    assert shown["slips"][0]["undone_at"] is not None
    assert [item["total_fen"] for item in shown["invoices"]] == [TOTAL_FEN, -TOTAL_FEN]
    assert (await claim.published(order.order_id))[-2:] == ["ClaimUndone", "OrderClosed"]
    again = await settled(claim)
    assert again.order_id != order.order_id, "the codes of an undone sale may be sold again"


async def test_a_line_left_at_the_door_is_paid_back_and_the_rest_settled_anew(
    claim: Claim,
) -> None:
    # Given a delivered order of two lines of 100.00, of which the patient left one
    order = await claim.order()
    [line] = order.lines
    second = line.model_copy(update={"line_id": new_id()})
    order = order.model_copy(update={"lines": (line, second)})
    await claim.approve(order)
    await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
    await claim.tell(claim.assigned(order))
    await claim.until(order.order_id, at(Step.PRICED))
    sealed, more = claim.sealed(order), claim.sealed(order, first=10).lines[0]
    scanned = (*sealed.lines, more.model_copy(update={"line_id": second.line_id}))
    await claim.tell(sealed.model_copy(update={"lines": scanned}))
    await claim.until(order.order_id, at(Step.SETTLED))
    left = {"refused_lines": (second.line_id,), "late": True}
    await claim.tell(of(story.delivered().model_copy(update=left), order))
    assert (await claim.until(order.order_id, closed)).outcome == "delivered"
    # Then fund and patient have back what that line cost them, by the way it came
    ours, theirs = await claim.accounts(order.order_id), await claim.theirs(order.order_id)
    assert ours == {
        "fund": -FUND_FEN,
        "patient": FUND_FEN - TOTAL_FEN,
        "pharmacy": TOTAL_FEN,
        # And what stands outside the claim is the platform's.
        "platform": -1_100,
        "courier": 600,
        "compensation": 500,
    }
    assert (theirs["fund_fen"], theirs["captured_fen"]) == (FUND_FEN, TOTAL_FEN - FUND_FEN)
    shown = (await claim.get(f"/v1/claims/{order.order_id}", "operations")).json()
    assert [slip["undone_at"] is None for slip in shown["slips"]] == [False, True]
    assert [item["total_fen"] for item in shown["invoices"]] == [2 * TOTAL_FEN, -TOTAL_FEN]
    assert (await claim.published(order.order_id))[-2:] == ["ClaimReduced", "OrderClosed"]


async def test_a_failed_attempt_is_undone_and_the_next_one_settles(claim: Claim) -> None:
    order = await settled(claim)
    await claim.tell(of(story.failed(), order), claim.assigned(order, 2))
    await claim.until(
        order.order_id,
        lambda s: s.attempt is not None and s.attempt.number == 2 and at(Step.PRICED)(s),
    )
    await claim.tell(claim.sealed(order, 2))
    await claim.until(order.order_id, at(Step.SETTLED))
    assert (await claim.accounts(order.order_id))["pharmacy"] == TOTAL_FEN
    assert (await claim.theirs(order.order_id))["fund_fen"] == FUND_FEN


async def test_a_code_sold_before_stops_the_parcel(claim: Claim) -> None:
    await settled(claim)
    order = await priced(claim)
    await claim.tell(claim.sealed(order))
    state = await claim.until(order.order_id, closed)
    assert state.outcome == "settlement_refused"
    await check_home(claim, order.order_id)


async def test_two_orders_of_one_person_never_use_the_same_money_twice(claim: Claim) -> None:
    # Given two orders of one person at once, both presettled with 50.00 on the account
    await claim.insure("CANARY-one-person", balance_fen=5_000)
    orders = [await claim.order(certificate="CANARY-one-person") for _ in range(2)]
    for order in orders:
        await claim.approve(order)
        await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
        await claim.tell(claim.assigned(order))
        state = await claim.until(order.order_id, at(Step.PRICED))
        assert state.attempt is not None
        assert state.attempt.split is not None
        assert (state.attempt.split.account_fen, state.attempt.split.cash_fen) == (4_000, 0)
    # When both are sealed at once
    sealed = [claim.sealed(order, first=10 * n) for n, order in enumerate(orders)]
    await claim.tell(*sealed)
    assert (await claim.state(orders[1].order_id)).rest, "the other has the person's turn"
    await claim.until(orders[0].order_id, at(Step.SETTLED))
    await claim.pass_time(timedelta(seconds=2))
    await claim.until(orders[1].order_id, at(Step.SETTLED))
    # Then one had the account's money, the other what was left of it, and cash for the rest
    books = [await claim.accounts(order.order_id) for order in orders]
    assert sorted(-book["personal_account"] for book in books) == [1_000, 4_000]
    assert sorted(-book.get("patient", 0) for book in books) == [0, 3_000]
    for order, book in zip(orders, books, strict=True):
        theirs = await claim.theirs(order.order_id)
        assert theirs["account_fen"] == -book["personal_account"]
        assert theirs["captured_fen"] == -book.get("patient", 0)
    # And our own books of the person's year say what the payer's say
    person = (await claim.state(orders[0].order_id)).person
    figures = await _year(claim, person)
    assert figures.fund["ordinary"] == sum(-book["fund"] for book in books)
    # And after both came back the person is as before, there and here
    for order in orders:
        await claim.tell(of(story.returned(), order))
        await claim.until(order.order_id, closed)
        await check_home(claim, order.order_id)
    sql = "SELECT balance_fen, years FROM person WHERE psn_no = $1"
    row = await claim.outside.payer_pool.fetchrow(sql, number_of("CANARY-one-person"))
    assert row is not None
    assert row["balance_fen"] == 5_000
    year = loaded(next(iter(json.loads(row["years"]).values())))
    assert year.deductible == {"ordinary": Decimal(300)}
    assert (year.fund["ordinary"], year.burden) == (ZERO, ZERO)
    figures = await _year(claim, person)
    assert figures.deductible["ordinary"] == 30_000
    assert (figures.fund["ordinary"], figures.burden_fen) == (0, 0)
    assert (
        await claim.shell.pool.fetchval("SELECT count(*) FROM person WHERE turn IS NOT NULL") == 0
    )


async def _year(claim: Claim, person: str) -> UsedUp:
    sql = "SELECT figures::text FROM person_year WHERE person = $1"
    return UsedUp.model_validate_json(await claim.shell.pool.fetchval(sql, person))


async def test_wrong_amounts_are_never_booked_and_a_person_decides(claim: Claim) -> None:
    order = await claim.order()
    await claim.approve(order)
    await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
    claim.misbehave("wrong", "presettle")
    await claim.tell(claim.assigned(order))
    await claim.until(order.order_id, lambda state: state.dispute is not None)
    claim.misbehave("none")
    [shown] = (await claim.get("/v1/disputes", "operations")).json()
    assert (shown["order_id"], shown["kind"]) == (str(order.order_id), "presettle")
    assert (shown["ours"]["fund_fen"], shown["theirs"]["fund_fen"]) == (FUND_FEN, FUND_FEN + 1)
    assert await claim.accounts(order.order_id) == {}
    assert (await claim.get("/v1/disputes", "hospital-a")).status_code == 403
    # When nobody decides in half an hour, operations are told, once
    for _ in range(2):
        await claim.pass_time(timedelta(minutes=30))
    assert (await claim.published(order.order_id)).count("DisputeOverdue") == 1
    taken = await claim.decide(order.order_id, shown["ref"], "ask_again")
    assert taken.status_code == 200
    await claim.until(order.order_id, at(Step.PRICED))
    assert (await claim.get("/v1/disputes", "operations")).json() == []


async def test_a_silent_payer_is_queried_and_settles_once(claim: Claim) -> None:
    order = await priced(claim)
    claim.misbehave("silent", "settle")
    await claim.tell(claim.sealed(order))
    await claim.until(order.order_id, at(Step.SETTLED))
    rows = await claim.outside.payer_pool.fetch("SELECT state FROM settlement")
    assert [row["state"] for row in rows] == ["settled"]


async def test_an_unknown_settlement_is_reversed_and_settled_once_more(claim: Claim) -> None:
    order = await priced(claim)
    claim.misbehave("silent", "settle", "query")
    await claim.tell(claim.sealed(order))
    await claim.until(order.order_id, lambda state: bool(state.rest))
    claim.misbehave("none")
    await claim.pass_time(timedelta(seconds=30))
    await claim.until(order.order_id, at(Step.SETTLED))
    rows = await claim.outside.payer_pool.fetch("SELECT state FROM settlement ORDER BY state")
    assert [row["state"] for row in rows] == ["settled", "undone"]
    assert (await claim.accounts(order.order_id))["fund"] == -FUND_FEN


async def test_of_a_dead_payer_the_patient_decides(claim: Claim) -> None:
    claim.misbehave("err")
    # Its plan is to be away for three minutes more; in that time nobody is asked.
    assert (await claim.away(timedelta(minutes=3))).status_code == 200
    orders = [await claim.order(self_pay=consent) for consent in (True, False, False)]
    for order in orders:
        await claim.approve(order)
        await claim.until(order.order_id, lambda state: bool(state.rest))
    await claim.pass_time(timedelta(seconds=150))
    assert not any([(await claim.state(order.order_id)).ask for order in orders])
    # When it stays away, all three are asked, and nothing was decided for them
    await claim.pass_time(timedelta(minutes=5))
    for order in orders:
        await claim.until(order.order_id, lambda state: state.ask is not None)
    for order, choice in zip(orders, ("self_pay", "cancel", "wait"), strict=True):
        assert (await claim.answer(order.order_id, choice, "hospital-a")).status_code == 200
    # Then one goes on alone, one ends, and one is insured as soon as the payer is back
    state = await claim.until(orders[0].order_id, lambda state: state.phase is Phase.OPEN)
    assert state.basis == "self_paid"
    assert (await claim.until(orders[1].order_id, closed)).outcome == "declined"
    await claim.until(orders[2].order_id, lambda state: bool(state.rest))
    claim.misbehave("none")
    isolation.AREAS.areas.clear()
    await claim.pass_time(timedelta(minutes=2))
    going = await claim.until(orders[2].order_id, lambda state: state.phase is Phase.OPEN)
    assert (going.basis, await claim.never_away()) == ("insured", 0)


async def test_a_cancellation_while_the_payer_thinks_waits_for_its_answer(claim: Claim) -> None:
    order = await claim.order()
    await claim.approve(order)
    await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
    claim.misbehave("silent", "presettle")
    await claim.tell(claim.assigned(order), of(story.delivery_cancelled(), order))
    assert (await claim.state(order.order_id)).phase is Phase.ENDING
    await claim.until(order.order_id, closed)
    await check_home(claim, order.order_id)


async def test_facts_that_come_too_early_wait_for_authorisation(claim: Claim) -> None:
    order = await claim.order()
    await claim.tell(claim.assigned(order))
    assert (await claim.state(order.order_id)).phase is Phase.NEW
    await claim.approve(order)
    await claim.until(order.order_id, at(Step.PRICED))
    assert not await claim.shell.pool.fetchval("SELECT count(*) FROM parked")


async def test_no_stored_request_shows_the_person(claim: Claim) -> None:
    order = await settled(claim)
    rows = await claim.shell.pool.fetch("SELECT request::text, response::text FROM call")
    states = await claim.shell.pool.fetch("SELECT state::text FROM state")
    text = " ".join(str(value) for row in (*rows, *states) for value in row.values())
    assert "presettlement_id" in text
    assert CANARY not in text
    assert f"EV-{order.order_id}" not in text


async def test_the_patient_answers_through_the_hospital(claim: Claim) -> None:
    order = await claim.order(share_max_fen=0)
    await claim.approve(order)
    await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
    await claim.tell(claim.assigned(order))
    await claim.until(order.order_id, lambda state: state.ask is not None)
    shown = await claim.get(f"/v1/claims/{order.order_id}", "hospital-a")
    assert shown.json()["ask"]["options"] == ["accept", "decline"]

    assert (await claim.answer(order.order_id, "accept", "hospital-b")).status_code == 404
    assert (await claim.answer(order.order_id, "accept", "chain-a")).status_code == 403
    odd = await claim.answer(order.order_id, "perhaps", "hospital-a")
    assert (odd.status_code, odd.json()["errors"][0]["field"]) == (422, "answer")
    taken = await claim.answer(order.order_id, "accept", "hospital-a")
    assert (taken.status_code, taken.json()["answer"]) == (200, "accept")
    await claim.until(order.order_id, at(Step.PRICED))
    closed_ask = await claim.answer(order.order_id, "accept", "hospital-a")
    assert (closed_ask.status_code, closed_ask.json()["code"]) == (409, "ask_closed")


async def test_silence_means_the_default(claim: Claim) -> None:
    order = await claim.order(share_max_fen=0)
    await claim.approve(order)
    await claim.until(order.order_id, lambda state: state.phase is Phase.OPEN)
    await claim.tell(claim.assigned(order))
    await claim.until(order.order_id, lambda state: state.ask is not None)
    await claim.pass_time(timedelta(minutes=10))
    state = await claim.until(order.order_id, closed)
    assert state.outcome == "declined"


async def test_a_claim_is_shown_to_its_hospital_and_to_the_operator(claim: Claim) -> None:
    order = await settled(claim)
    path = f"/v1/claims/{order.order_id}"
    for tenant in ("hospital-a", "operations"):
        shown = (await claim.get(path, tenant)).json()
        assert (shown["phase"], shown["attempt"]["step"]) == ("open", "settled")
        assert [item["kind"] for item in shown["transfers"]][-1] in ("capture", "settlement")
        assert all(item["caused_by"] and item["call_ref"] for item in shown["transfers"])
        [slip], [invoice] = shown["slips"], shown["invoices"]
        assert (slip["fund_fen"], len(slip["msgid"]), slip["undone_at"]) == (FUND_FEN, 30, None)
        assert (invoice["total_fen"], len(invoice["number"])) == (TOTAL_FEN, 20)
    assert (await claim.get(path, "hospital-b")).status_code == 404
    assert (await claim.get(f"/v1/claims/{new_id()}", "operations")).status_code == 404
    assert (await claim.get(path, "chain-a")).status_code == 403


async def test_the_ledger_adds_up_with_both_far_sides(claim: Claim) -> None:
    await settled(claim)
    undone = await settled(claim, first=10)
    await claim.tell(of(story.returned(), undone))
    await claim.until(undone.order_id, closed)
    shown = (await claim.get("/v1/ledger/summary", "operations")).json()
    payer = (await claim.outside.payer.side.ledger())["totals"]
    payment = (await claim.outside.payment.side.ledger())["totals"]
    assert (shown["unbalanced"], payer["settled"], payer["undone"]) == ([], 1, 1)
    assert shown["accounts"]["fund"] == -payer["fund_fen"] == -FUND_FEN
    assert shown["accounts"].get("personal_account", 0) == -payer["account_fen"]
    assert shown["accounts"].get("patient", 0) == -payment["captured_fen"]
    assert shown["transfers"]["settlement"]["count"] == 2
    assert (await claim.get("/v1/ledger/summary", "hospital-a")).status_code == 403
    # And what the courier is owed is paid out once, when its day is over, past the provider
    day, fee_fen = await claim.day(), shown["accounts"]["courier"]
    assert (await claim.pay_out("courier", day)).json()["code"] == "not_over"
    await claim.pass_time(timedelta(days=1))
    told = await asyncio.gather(*(claim.pay_out("courier", day, fleet=f) for f in story.FLEETS))
    assert sorted(one.json()["fen"] for one in told) == [0, 0, fee_fen]
    [paid] = (await claim.get("/v1/payouts", "operations")).json()
    [line] = (await claim.get(f"/v1/payouts/{paid['number']}", "operations")).json()
    assert (paid["fen"], line["order_id"]) == (fee_fen, str(undone.order_id))
    assert (line["fleet"], paid["fleet"], line["fen"]) == (*story.FLEETS[:2], fee_fen)
    shown = (await claim.get("/v1/ledger/summary", "operations")).json()
    assert (shown["unbalanced"], shown["accounts"]["courier"]) == ([], 0)
    assert shown["accounts"]["paid_out"] == fee_fen == -shown["accounts"]["platform"]
    assert (await claim.reconcile(await claim.day()))["provider"]["compared"] == 0


async def test_a_days_books_are_equal_until_somebody_loses_doubles_or_alters(claim: Claim) -> None:
    # Given four settled orders of one day, one of them undone
    orders = [await settled(claim, first=10 * n) for n in range(4)]
    await claim.tell(of(story.returned(), orders[3]))
    await claim.until(orders[3].order_id, closed)
    shown = [
        (await claim.get(f"/v1/claims/{order.order_id}", "operations")).json() for order in orders
    ]
    ids = [item["slips"][0]["settlement_id"] for item in shown]
    day = datetime.fromisoformat(shown[0]["slips"][0]["settled_at"]).astimezone(CHINA).date()
    # When nobody did any harm, then all is equal
    told = await claim.reconcile(day)
    assert (told["unmatched"], told["differences"], told["provider"]["result"]) == (0, [], "equal")
    assert [row["settlements"] for row in told["groups"]] == [3]
    # And the payer is told of each sale, once; what is undone already needs no telling
    line = PayerLine(outbound.client(claim.outside.payer_url, 4, 5.0))
    teller = Teller(claim.shell.pool, Exchange(line))
    assert await teller.tell() == {"told": 3, "refused": 2, "left": 0}
    assert await teller.tell() == {"told": 0, "refused": 0, "left": 0}
    # What is still on its way is mended by nobody else
    await claim.tamper("double", ids[0])
    [row] = (await claim.reconcile(day, repair=True))["differences"]
    assert (row["code"], row["resolution"]) == ("000101", "open")
    for order in orders[:3]:
        await claim.tell(of(story.delivered(), order))
        await claim.until(order.order_id, closed)
    [row] = (await claim.reconcile(day, repair=True))["differences"]
    assert (row["code"], row["resolution"]) == ("000101", "repaired")
    # When the payer loses one, doubles another and alters the third
    for do, settlement_id in zip(("lose", "double", "alter"), ids[:3], strict=True):
        await claim.tamper(do, settlement_id)
    # Then exactly these are found, each by its code
    told = await claim.reconcile(day)
    found = {row["settlement_id"]: row["code"] for row in told["differences"]}
    assert found == {ids[0]: "000102", f"{ids[1]}-2": "000101", ids[2]: "000103"}
    assert told["unmatched"] == 3
    # And all three can be mended: reversed, settled again, undone and settled again
    mended = await claim.reconcile(day, repair=True)
    found = {row["code"]: row["resolution"] for row in mended["differences"]}
    assert found == dict.fromkeys(("000101", "000102", "000103"), "repaired"), mended
    assert (await claim.reconcile(day))["unmatched"] == 0
    # What was settled under another number is told as returned and sold again
    assert await teller.tell() == {"told": 2, "refused": 0, "left": 0}
    await line.close()
    # What the payer counts on the next day is explained on both, and never reversed
    await claim.tamper("cut", ids[0])
    for of_day, code in ((day, "000102"), (day + timedelta(days=1), "000101")):
        cut = await claim.reconcile(of_day, repair=True)
        [row] = cut["differences"]
        assert (row["code"], row["resolution"]) == (code, "explained")
    # What is lost for good is given up by two persons, not by one
    await claim.tamper("lose", ids[1])
    assert (await claim.reconcile(day))["unmatched"] == 1
    said = [await claim.give_up(ids[1], person) for person in ("S-1", "S-1", "S-2")]
    assert [answer.status_code for answer in said] == [200, 409, 200]
    told = await claim.reconcile(day)
    found = {row["settlement_id"]: row["resolution"] for row in told["differences"]}
    assert found == {ids[0]: "explained", ids[1]: "written_off"}
    assert told["unmatched"] == 0
    quiet = await claim.reconcile(day - timedelta(days=1))
    assert quiet["unmatched"] == 0


async def test_a_share_that_is_held_overnight_is_no_capture(claim: Claim) -> None:
    # Given one order that is paid, and one whose pharmacy has not sealed by the end of the day
    await settled(claim)
    held = await priced(claim)
    assert (await claim.theirs(held.order_id))["held_fen"]
    # Then provider and ledger have captured the same
    told = await claim.reconcile(await claim.day())
    assert (told["provider"]["compared"], told["provider"]["differences"]) == (2, [])


async def test_what_the_provider_captured_for_nobody_of_ours_is_listed(claim: Claim) -> None:
    # Given a capture by hand, under a name that is no id of an order
    await claim.outside.payment_pool.execute(
        "INSERT INTO hold (key, order_ref, order_number, attempt, amount_fen, state) "
        "VALUES ('by hand', 'by hand', 'by hand', 1, 500, 'captured')"
    )
    [row] = (await claim.reconcile(await claim.day()))["provider"]["differences"]
    assert (row["code"], row["order_id"], row["theirs_fen"]) == ("000101", "by hand", 500)


async def test_a_repair_leaves_the_money_of_an_order_on_its_way_alone(claim: Claim) -> None:
    # Given a parcel on the road whose settlement the payer altered, and one that a person looks at
    order, doubtful = await settled(claim), await priced(claim)
    claim.misbehave("wrong", "settle")
    await claim.tell(claim.sealed(doubtful, first=10))
    await claim.until(doubtful.order_id, lambda state: state.dispute is not None)
    claim.misbehave("none")
    [slip] = (await claim.get(f"/v1/claims/{order.order_id}", "operations")).json()["slips"]
    await claim.tamper("alter", slip["settlement_id"])
    # When the day's books are repaired, then both stay as they are
    day = datetime.fromisoformat(slip["settled_at"]).astimezone(CHINA).date()
    told = await claim.reconcile(day, repair=True)
    found = {row["code"]: row["resolution"] for row in told["differences"]}
    assert found == {"000101": "open", "000103": "open"}
    assert (await claim.theirs(doubtful.order_id))["fund_fen"]
    # And what comes back is undone by the number that the order knows
    await claim.tell(of(story.returned(), order))
    await claim.until(order.order_id, closed)
    await check_home(claim, order.order_id)


@pytest.mark.parametrize("entries", [[], [("fund", -5)], [("fund", -5), ("pharmacy", 4)]])
async def test_the_database_refuses_a_transfer_that_does_not_balance(
    database: Database, entries: list[tuple[str, int]]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="entries that sum to"):
        await _transfer(database, entries)


async def test_the_database_takes_a_balanced_transfer_and_keeps_it(database: Database) -> None:
    await _transfer(database, [("fund", -5), ("pharmacy", 5)])
    conn = await asyncpg.connect(database.dsn("claim"), server_settings={"search_path": "claim"})
    try:
        for statement in ("UPDATE entry SET amount_fen = 1", "DELETE FROM transfer"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(statement)
    finally:
        await conn.close()


async def _transfer(database: Database, entries: list[tuple[str, int]]) -> None:
    conn = await asyncpg.connect(database.dsn("claim"), server_settings={"search_path": "claim"})
    transfer_id = new_id()
    try:
        async with conn.transaction():
            await conn.execute(
                "INSERT INTO transfer (id, order_id, tenant_id, attempt, kind, at) "
                "VALUES ($1, $1, $1, 1, 'settlement', now())",
                transfer_id,
            )
            for account, fen in entries:
                await conn.execute(
                    "INSERT INTO entry VALUES ($1, $2, $3)", transfer_id, account, fen
                )
    finally:
        await conn.close()
