"""Orders come in over HTTP and Kafka, once each, and nothing personal is stored in the clear."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.prescription import CancelOrder, CorrectPrescription, SheetInput
from schemas.values import CancelCause
from services.kit.ids import new_id
from services.kit.spec import NOW
from services.prescription import api
from services.prescription.app import SERVICE
from tests.databases import Database
from tests.integration.prescription.harness import Process, running, set_time
from tests.unit.prescription.examples import line, sheet, submission, submission_body

pytestmark = pytest.mark.live

PERSONAL = (
    "测试患者",
    "11010519491231002X",
    "13800000000",
    "测试路",
    "synthetic-token",
    "1980-05-17",
)


@pytest.fixture
async def process(database: Database) -> AsyncIterator[Process]:
    async with running(database, SERVICE, api.router) as started:
        yield started


def body(number: str = "A-1", **changes: Any) -> dict[str, Any]:
    """An order with a fresh prescription."""
    mine = sheet(1, line("amlodipine"), prescription_id=str(new_id()))
    return submission_body(mine, **{"order_number": number, **changes})


async def submit(
    process: Process, sent: dict[str, Any], tenant: str = "hospital-a", key: str = ""
) -> Any:
    headers = {"Idempotency-Key": key or str(new_id())}
    return await process.post("/v1/prescriptions", sent, tenant, headers)


async def test_an_order_is_issued_and_its_place_is_told(process: Process) -> None:
    answer = await submit(process, body())
    assert answer.status_code == 202, answer.text
    order_id = answer.json()["order_id"]
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    assert await process.events(UUID(order_id)) == ["PrescriptionIssued"]


async def test_nothing_personal_is_stored_in_the_clear(process: Process) -> None:
    assert (await submit(process, body())).status_code == 202
    refused = body("A-2", consent={"risk_notice_confirmed": False})
    assert (await submit(process, refused)).status_code == 422
    tables = await process.shell.pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'prescription'"
    )
    for row in tables:
        text = await process.shell.pool.fetchval(
            f"SELECT string_agg(t::text, ' ') FROM {row['tablename']} t"
        )
        (issued,) = await process.bodies("prescription.PrescriptionIssued")
        for word in PERSONAL:
            assert word not in (text or ""), f"{word} in {row['tablename']}"
            assert word not in str(issued)


async def test_the_same_number_and_order_gets_the_first_answer(process: Process) -> None:
    sent = body()
    first, again = await submit(process, sent), await submit(process, sent)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert await process.shell.pool.fetchval("SELECT count(*) FROM state") == 1


async def test_the_same_number_for_another_order_is_refused(process: Process) -> None:
    await submit(process, body())
    refused = await submit(process, body())
    assert refused.status_code == 409
    assert refused.json()["code"] == "order_number_taken"
    assert refused.json()["errors"][0]["field"] == "order_number"
    assert (await submit(process, body(), "hospital-b")).status_code == 202


async def test_a_refused_order_leaves_its_number_free(process: Process) -> None:
    refused = await submit(process, body(consent={"risk_notice_confirmed": False}))
    assert refused.json()["errors"][0]["field"] == "consent.risk_notice_confirmed"
    used = body("A-0")
    await submit(process, used)
    reused = body("A-1", prescriptions=used["prescriptions"])
    assert (await submit(process, reused)).json()["code"] == "prescription_used"
    assert (await submit(process, body("A-1"))).status_code == 202


async def test_of_many_at_once_with_one_number_exactly_one_is_issued(process: Process) -> None:
    answers = await asyncio.gather(*(submit(process, body()) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    assert await process.shell.pool.fetchval("SELECT count(*) FROM submission") == 1


async def test_the_same_idempotency_key_replays_the_first_answer(process: Process) -> None:
    sent = body()
    first = await submit(process, sent, key="once")
    again = await submit(process, sent, key="once")
    assert first.json() == again.json()
    assert again.headers["location"] == first.headers["location"]
    assert (await submit(process, body("B-1"), key="once")).status_code == 422


async def test_kafka_carries_the_same_commands(process: Process) -> None:
    mine = sheet(1, prescription_id=str(new_id()))
    await process.intake(submission(mine), "hospital-a")
    (issued,) = await process.bodies("prescription.PrescriptionIssued")
    (reply,) = await process.bodies("prescription.CommandAnswered")
    assert (reply["accepted"], reply["order_id"]) == (True, issued["order_id"])
    refused = submission(sheet(1, line(product_code="XUNKNOWN0001")), order_number="A-9")
    await process.intake(refused, "hospital-a")
    reply = (await process.bodies("prescription.CommandAnswered"))[-1]
    assert (reply["accepted"], reply["code"]) == (False, "unknown_product")
    assert reply["field"] == "prescriptions.0.lines.0.product_code"


async def test_two_hospitals_may_name_their_messages_alike(process: Process) -> None:
    same = new_id()
    for tenant in ("hospital-a", "hospital-b", "hospital-a"):
        command = submission(sheet(1, prescription_id=str(new_id())))
        await process.intake(command, tenant, message_id=same)
    replies = await process.bodies("prescription.CommandAnswered")
    # What a hospital says again is heard once.
    assert len(replies) == 2


async def test_what_no_database_can_hold_is_refused_by_its_field(process: Process) -> None:
    refused = await submit(process, body("A\0"))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "order_number"


async def test_who_sends_what_nobody_can_read_is_told_so(process: Process) -> None:
    command = submission(sheet(1, prescription_id=str(new_id())))
    await process.intake(command, "hospital-a", body=b'{"order_number": ')
    (reply,) = await process.bodies("prescription.CommandAnswered")
    assert (reply["accepted"], reply["code"]) == (False, "bad_body")
    (dead,) = await process.shell.pool.fetch("SELECT event_id, tenant_id, state FROM parked")
    assert (str(dead["event_id"]), dead["state"]) == (reply["command_id"], "refused")
    assert dead["tenant_id"] == process.tenants["hospital-a"]


async def test_a_submission_repeated_over_kafka_is_told_its_first_order(process: Process) -> None:
    command = submission(sheet(1, prescription_id=str(new_id())))
    for _ in range(2):
        await process.intake(command, "hospital-a")
    (issued,) = await process.bodies("prescription.PrescriptionIssued")
    replies = await process.bodies("prescription.CommandAnswered")
    assert [reply["order_id"] for reply in replies] == [issued["order_id"]] * 2


async def test_a_correction_keeps_what_it_does_not_touch(process: Process) -> None:
    one, two = str(new_id()), str(new_id())
    sheets = [sheet(1, prescription_id=one), sheet(2, line("metformin"), prescription_id=two)]
    answer = await submit(process, submission_body(*sheets))
    order_id = UUID(answer.json()["order_id"])
    fixed = sheet(1, line("irbesartan"), prescription_id=one, version=2)
    command = CorrectPrescription(order_id=order_id, prescription=SheetInput.model_validate(fixed))
    path = "/v1/prescriptions/correct"
    assert (await process.post(path, command, "hospital-b")).status_code == 404
    assert (await process.post(path, command, "hospital-a")).status_code == 202
    assert (await process.post(path, command, "hospital-a")).status_code == 202
    (corrected,) = await process.bodies("prescription.PrescriptionCorrected")
    assert [item["prescription_id"] for item in corrected["order"]["lines"]] == [two, one]


async def test_cancelling_and_expiring_ask_down_the_road(
    process: Process, database: Database
) -> None:
    order_id = UUID((await submit(process, body())).json()["order_id"])
    command = CancelOrder(order_id=order_id, request_id=new_id(), cause=CancelCause.PATIENT)
    path = "/v1/prescriptions/cancel"
    first = await process.post(path, command, "hospital-a")
    assert (first.status_code, first.json()["result"]) == (202, "requested")
    assert (await process.post(path, command, "hospital-a")).json() == first.json()
    assert (await process.post(path, command, "hospital-b")).status_code == 404
    await set_time(database, NOW + timedelta(days=3))
    assert await process.fire() == 1
    asked = await process.bodies("prescription.CancelRequested")
    assert [event["cause"] for event in asked] == ["patient", "expiry"]


async def test_what_the_model_refuses_names_its_field(process: Process) -> None:
    sent = body()
    sent["prescriptions"][0]["lines"][0]["frequency"] = "often"
    answer = await submit(process, sent)
    assert answer.status_code == 422
    field = "prescriptions.0.lines.0.frequency"
    assert answer.json()["errors"][0]["field"] == field
