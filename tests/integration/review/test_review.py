"""From the hospital's HTTP call through the pharmacists' desk to the one outcome."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas.prescription import CancelOrder, CorrectPrescription, SheetInput
from schemas.review import TakeCase
from schemas.values import CancelCause
from services.kit.ids import new_id
from services.kit.spec import NOW
from services.prescription import api as prescription_api
from services.prescription.app import SERVICE as PRESCRIPTION
from services.review import api, trust
from services.review.app import SERVICE
from services.review.rules import chosen
from services.sandbox import authority
from tests.databases import Database
from tests.integration.prescription.harness import Process, running, set_time
from tests.unit.prescription.examples import drug, line, sheet, submission_body
from tests.unit.review.examples import CITY, banned, clear, doubtful

pytestmark = pytest.mark.live

ROSTER = chosen(CITY, "").desk.roster


@dataclass
class Road:
    """A hospital's door and the pharmacists' desk."""

    hospital: Process
    desk: Process

    async def submit(
        self, *sheets: dict[str, Any], number: str = "A-1", by: str = "hospital-a", **changes: Any
    ) -> UUID:
        """Submit an order and let review read it."""
        sent = submission_body(*sheets, order_number=number, **changes)
        key = {"Idempotency-Key": str(new_id())}
        answer = await self.hospital.post("/v1/prescriptions", sent, by, key)
        assert answer.status_code == 202, answer.text
        await self.desk.follow(self.hospital)
        return UUID(answer.json()["order_id"])

    async def take(self, order_id: UUID, pharmacist: str = "P-1", title: str = "") -> Any:
        """A pharmacist takes the case, by the title of the sandbox's roster."""
        title = title or ROSTER.get(pharmacist, "2.4")
        command = TakeCase(order_id=order_id, pharmacist=pharmacist, title=title)
        return await self.desk.post("/v1/reviews/take", command, "reviewers")

    async def decide(
        self, order_id: UUID, decision: str, pharmacist: str = "P-1", **changes: Any
    ) -> Any:
        """Take the case and decide its first waiting prescription."""
        case = (await self.take(order_id, pharmacist)).json()
        sent = {
            "order_id": str(order_id),
            "prescription_id": case["prescriptions"][0]["prescription_id"],
            "version": case["prescriptions"][0]["version"],
            "pharmacist": pharmacist,
            "lease": case["lease"],
            "seen": case["prescriptions"][0]["seen"],
            "decision": decision,
            "code": "" if decision == "approve" else "2-5",
            **changes,
        }
        return await self.desk.post("/v1/reviews/decide", sent, "reviewers")

    async def queue(self, state: str = "waiting") -> list[str]:
        """The orders in one part of the queue."""
        answer = await self.desk.get(f"/v1/reviews?state={state}", "reviewers")
        return [case["order_id"] for case in answer.json()["cases"]]


@pytest.fixture
async def road(database: Database) -> AsyncIterator[Road]:
    async with AsyncExitStack() as stack:
        hospital = await stack.enter_async_context(
            running(database, PRESCRIPTION, prescription_api.router)
        )
        desk = await stack.enter_async_context(running(database, SERVICE, api.router))
        yield Road(hospital, desk)


def person(number: str) -> dict[str, Any]:
    """Somebody who holds nothing yet."""
    body = submission_body()
    return {"patient": {**body["patient"], "certificate_number": f"11010519491231{number * 4}"}}


def fresh(made: dict[str, Any]) -> dict[str, Any]:
    """The same prescription under a new id."""
    return {**made, "prescription_id": str(new_id())}


async def test_rules_alone_approve_and_reject(road: Road) -> None:
    approved = await road.submit(fresh(clear()), fresh(banned()))
    assert await road.desk.events(approved) == ["ReviewApproved"]
    (event,) = await road.desk.bodies("review.ReviewApproved")
    codes = [item["product_code"] for item in event["order"]["lines"]]
    assert codes == [drug("metformin").product_code]
    rejected = await road.submit(fresh(banned()), number="A-2")
    assert await road.desk.events(rejected) == ["ReviewRejected"]
    assert await road.queue("all") == []


async def test_a_person_takes_opens_and_approves(road: Road) -> None:
    order_id = await road.submit(fresh(doubtful()))
    assert await road.queue() == [str(order_id)]
    assert (await road.take(order_id)).status_code == 200
    assert (await road.take(order_id, "P-2")).json()["code"] == "case_taken"
    assert (await road.queue(), await road.queue("taken")) == ([], [str(order_id)])
    case = (await road.desk.get(f"/v1/reviews/{order_id}", "reviewers")).json()
    assert case["patient"]["birth_date"] == "1980-05-17"
    (written,) = case["prescriptions"]
    assert written["content"]["lines"][0]["days"] == 56
    assert [reason["rule_id"] for reason in written["reasons"]] == ["L02-assess"]
    answer = await road.decide(order_id, "approve", reason="已电话核实")
    assert answer.status_code == 200, answer.text
    assert await road.desk.events(order_id) == ["ReviewEscalated", "ReviewApproved"]
    assert await road.queue("all") == []
    ended = (await road.desk.get(f"/v1/reviews/{order_id}", "reviewers")).json()
    assert "patient" not in ended
    assert "content" not in ended["prescriptions"][0]
    await sealed_and_erased(road, order_id, ended["prescriptions"][0])


async def sealed_and_erased(road: Road, order_id: UUID, shown: dict[str, Any]) -> None:
    """What was found and said of a person stands sealed, is told to his hospital alone, can be
    judged again from the archive, and goes with his keys."""
    path, pool = f"/v1/reviews/{order_id}", road.desk.shell.pool
    words = [finding[tongue] for finding in shown["findings"] for tongue in ("zh", "en")]
    words.append(shown["acts"][0]["reason"])
    written = await pool.fetchval("SELECT string_agg(state::text, '') FROM state")
    written += await pool.fetchval("SELECT string_agg(convert_from(body, 'UTF8'), '') FROM outbox")
    assert words[-1] == "已电话核实"
    assert "L02-assess" in written
    assert [word for word in words if word in written] == []
    told = (await road.desk.get(f"{path}/findings", "hospital-a")).json()["prescriptions"][0]
    assert (told["findings"], told["acts"]) == (shown["findings"], shown["acts"])
    assert (await road.desk.get(f"{path}/findings", "hospital-b")).status_code == 404
    again = (await road.desk.get(f"{path}/replay", "reviewers")).json()["prescriptions"][0]
    assert (again["same"], again["verdict"]) == (True, "look")
    vault = road.hospital.shell.vault
    async with road.hospital.shell.pool.acquire() as conn:
        assert await vault.forget(conn, order_id) > 0
    road.desk.shell.vault._opened.clear()
    closed = (await road.desk.get(path, "reviewers")).json()
    assert (closed["erased"], closed["prescriptions"][0]["findings"]) == (True, [])
    assert (await road.desk.get(f"{path}/replay", "reviewers")).status_code == 410


async def test_the_desk_is_the_reviewers_alone(road: Road) -> None:
    order_id = await road.submit(fresh(doubtful()))
    path = f"/v1/reviews/{order_id}"
    assert (await road.desk.get(path, "hospital-a")).status_code == 403
    assert (await road.desk.get(path, "operations")).status_code == 403
    assert (await road.desk.get("/v1/reviews", "chain-a")).status_code == 403
    assert (await road.desk.get(f"/v1/reviews/{new_id()}", "reviewers")).status_code == 404


async def test_back_to_the_doctor_and_corrected(road: Road) -> None:
    one = fresh(doubtful())
    order_id = await road.submit(one, fresh(clear(2)))
    assert (await road.decide(order_id, "return", reason="剂量过大")).status_code == 200
    assert await road.queue("returned") == [str(order_id)]
    fixed = {**clear(), "prescription_id": one["prescription_id"], "version": 2}
    command = CorrectPrescription(order_id=order_id, prescription=SheetInput.model_validate(fixed))
    await road.hospital.post("/v1/prescriptions/correct", command, "hospital-a")
    await road.desk.follow(road.hospital)
    assert await road.desk.events(order_id) == [
        "ReviewEscalated",
        "ReviewReturned",
        "ReviewApproved",
    ]
    assert await road.desk.shell.pool.fetchval("SELECT count(*) FROM timer") == 0


async def test_what_no_pharmacist_may_pass(road: Road) -> None:
    """One is cleared, one is the doctor's alone, one is nobody's; then the doctor corrects his."""
    too_much = fresh(sheet(1, line("amlodipine", frequency="13")))
    clearable, never = fresh(doubtful(2)), fresh(banned(3))
    order_id = await road.submit(too_much, clearable, never)
    assert (await road.take(order_id, "P-6")).json()["code"] == "title_not_allowed"
    shown = (await road.desk.get(f"/v1/reviews/{order_id}", "reviewers")).json()["prescriptions"]
    case = {one["prescription_id"]: one for one in shown}
    assert [one["step"] for one in shown] == ["returned", "person", "rejected"]
    for stopped in (too_much, never):
        found = case[stopped["prescription_id"]]
        name = {"prescription_id": stopped["prescription_id"], "seen": found["seen"]}
        refused = await road.decide(order_id, "approve", **name)
        assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_decide")
    assert (await road.decide(order_id, "approve")).status_code == 200
    assert "ReviewApproved" not in await road.desk.events(order_id)
    fixed = fresh(clear())
    fixed |= {"prescription_id": too_much["prescription_id"], "version": 2}
    command = CorrectPrescription(order_id=order_id, prescription=SheetInput.model_validate(fixed))
    await road.hospital.post("/v1/prescriptions/correct", command, "hospital-a")
    await road.desk.follow(road.hospital)
    (event,) = await road.desk.bodies("review.ReviewApproved")
    assert event["approved"] == [too_much["prescription_id"], clearable["prescription_id"]]
    assert [one["prescription_id"] for one in event["rejected"]] == [never["prescription_id"]]


async def test_a_corrected_case_shows_the_corrected_text(road: Road) -> None:
    one = fresh(doubtful())
    order_id = await road.submit(one)
    await road.decide(order_id, "return")
    fixed = {**doubtful(), "prescription_id": one["prescription_id"], "version": 2}
    fixed["lines"][0]["days"], fixed["lines"][0]["quantity"] = 84, 3
    command = CorrectPrescription(order_id=order_id, prescription=SheetInput.model_validate(fixed))
    await road.hospital.post("/v1/prescriptions/correct", command, "hospital-a")
    await road.desk.follow(road.hospital)
    case = (await road.desk.get(f"/v1/reviews/{order_id}", "reviewers")).json()
    (written,) = case["prescriptions"]
    assert (written["version"], written["content"]["lines"][0]["days"]) == (2, 84)
    assert (await road.decide(order_id, "approve")).status_code == 200
    await every_version_again(road, order_id)


async def every_version_again(road: Road, order_id: UUID) -> None:
    """What was corrected can be judged again as well; it goes with the person's keys."""
    path = f"/v1/reviews/{order_id}/replay"
    again = (await road.desk.get(path, "reviewers")).json()["prescriptions"]
    assert [(one["version"], one["same"]) for one in again] == [(1, True), (2, True)]
    first = (await road.desk.get(f"{path}?version=1", "reviewers")).json()["prescriptions"]
    assert first == again[:1]
    assert (await road.desk.get(f"{path}?version=3", "reviewers")).status_code == 404
    async with road.hospital.shell.pool.acquire() as conn:
        assert await road.hospital.shell.vault.forget(conn, order_id) > 0
    road.desk.shell.vault._opened.clear()
    assert (await road.desk.get(path, "reviewers")).status_code == 410


async def test_no_correction_in_time(road: Road, database: Database) -> None:
    order_id = await road.submit(fresh(doubtful()))
    await road.decide(order_id, "return")
    await set_time(database, NOW + timedelta(hours=2))
    assert await road.desk.fire() == 1
    assert await road.desk.events(order_id) == [
        "ReviewEscalated",
        "ReviewReturned",
        "ReviewRejected",
    ]


async def test_cancelled_in_review_and_after_it(road: Road) -> None:
    waiting = await road.submit(fresh(doubtful()))
    passed = await road.submit(fresh(clear()), number="A-2")
    for order_id in (waiting, passed):
        command = CancelOrder(order_id=order_id, request_id=new_id(), cause=CancelCause.PATIENT)
        await road.hospital.post("/v1/prescriptions/cancel", command, "hospital-a")
    await road.desk.follow(road.hospital)
    ended = ["ReviewEscalated", "ReviewCancelled", "CancelAnswered"]
    assert await road.desk.events(waiting) == ended
    assert await road.desk.events(passed) == ["ReviewApproved", "CancelForwarded"]
    assert await road.queue("all") == []


async def test_what_a_person_holds_counts_until_it_is_given_back(road: Road) -> None:
    first = await road.submit(fresh(clear()))
    assert await road.desk.events(first) == ["ReviewApproved"]
    second = await road.submit(fresh(clear()), by="hospital-b")
    (told,) = await road.desk.bodies("review.ReviewEscalated")
    assert [reason["rule_id"] for reason in told["reasons"]] == ["X01"]
    assert (await road.decide(second, "reject", code="2-7")).status_code == 200
    (person,) = await road.desk.shell.pool.fetch("SELECT DISTINCT person FROM supply")
    assert len(person["person"]) == 64
    held = await road.desk.shell.pool.fetch("SELECT order_id, tenant_id, days FROM supply")
    assert [tuple(row) for row in held] == [(first, road.desk.tenants["hospital-a"], 7)]

    waiting = await road.submit(fresh(doubtful()), number="A-2")
    command = CancelOrder(order_id=waiting, request_id=new_id(), cause=CancelCause.PATIENT)
    await road.hospital.post("/v1/prescriptions/cancel", command, "hospital-a")
    await road.desk.follow(road.hospital)
    third = await road.submit(fresh(sheet(1, line("amlodipine"))), by="hospital-b", number="B-2")
    assert await road.desk.events(third) == ["ReviewApproved"]


async def test_two_orders_of_a_person_in_one_batch(road: Road) -> None:
    for number, by in (("A-1", "hospital-a"), ("B-1", "hospital-b")):
        sent = submission_body(fresh(clear()), order_number=number)
        await road.hospital.post("/v1/prescriptions", sent, by, {"Idempotency-Key": number * 9})
    await road.desk.follow(road.hospital)
    told = await road.desk.shell.pool.fetch("SELECT type FROM outbox ORDER BY id")
    assert [row["type"] for row in told] == ["review.ReviewApproved", "review.ReviewEscalated"]


async def test_the_road_carries_signatures_and_proves_them(road: Road, tmp_path: Path) -> None:
    for name, data in authority.trust_files().items():
        (tmp_path / name).write_bytes(data)
    trust.stand(trust.read(tmp_path))
    try:
        genuine = await road.submit(signed_sheet("metformin"))
        forged = signed_sheet("acarbose")
        forged["lines"][0]["quantity"] += 1
        refused = await road.submit(forged, number="A-2")
    finally:
        trust.stand(None)
    assert await road.desk.events(genuine) == ["ReviewApproved"]
    assert await road.desk.events(refused) == ["ReviewRejected"]
    (told,) = await road.desk.bodies("review.ReviewRejected")
    reasons = {(reason["rule_id"], reason["code"]) for reason in told["rejected"][0]["reasons"]}
    assert {("S-chain", "1-2"), ("S-chain-pharmacist", "1-3")} <= reasons


def signed_sheet(drug: str) -> dict[str, Any]:
    """Signed by the doctor and the pharmacist of the sandbox."""
    bare = SheetInput.model_validate(fresh(sheet(1, line(drug))))
    at = NOW - timedelta(minutes=1)
    doctor, pharmacist = (
        authority.signed(bare, licence, at, "1980-05-17", "1")
        for licence in (authority.DOCTOR, authority.PHARMACIST)
    )
    both = {"prescriber": doctor, "pharmacist": pharmacist}
    return bare.model_copy(update=both).model_dump(mode="json")


async def test_kafka_carries_the_desks_commands(road: Road) -> None:
    order_id = await road.submit(fresh(doubtful()))
    command = TakeCase(order_id=order_id, pharmacist="P-1", title="2.4")
    await road.desk.intake(command, "reviewers")
    (reply,) = await road.desk.bodies("review.CommandAnswered")
    assert reply["accepted"] is True
    assert await road.queue("taken") == [str(order_id)]
    await road.desk.intake(command, "hospital-a")
    reply = (await road.desk.bodies("review.CommandAnswered"))[-1]
    assert (reply["accepted"], reply["code"]) == (False, "not_allowed")


async def test_a_shift_at_the_desk(road: Road, database: Database) -> None:
    """Clears, returns, reviews again, and is refused what it may not pass."""
    one = fresh(doubtful())
    slow = await road.submit(one, **person("1"))
    cleared = await road.submit(fresh(doubtful()), number="A-2", **person("2"))
    refused = await road.submit(fresh(banned()), number="A-3", **person("3"))
    urgent = await road.submit(fresh(doubtful()), number="A-4", tier="emergency", **person("4"))
    listed = (await road.desk.get("/v1/reviews", "reviewers")).json()["cases"]
    assert [case["order_id"] for case in listed] == [str(slow), str(cleared), str(urgent)]
    assert [case["left_s"] for case in listed] == [1800, 1800, 2700]
    assert (listed[0]["severity"], listed[0]["findings"], listed[0]["late"]) == (
        "pharmacist",
        1,
        False,
    )
    # Nobody passes what is banned, and no assistant, prescriber or blind hand passes anything.
    assert (await road.take(refused)).json()["code"] == "case_closed"
    assert (await road.take(slow, "P-6")).json()["code"] == "title_not_allowed"
    assert (await road.take(slow, title="2.1")).json()["code"] == "title_differs"
    assert (await road.take(slow, "D-1")).json()["code"] == "unknown_pharmacist"
    assert (await road.decide(slow, "approve", seen="")).json()["code"] == "seen_missing"
    assert (await road.decide(slow, "approve", seen="0" * 64)).json()["code"] == "seen_changed"
    assert (await road.decide(slow, "return", code="9-9")).json()["code"] == "unknown_reason_code"
    # It clears one and returns another, which comes back corrected and is reviewed again.
    assert (await road.decide(cleared, "approve")).json()["decision"] == "approve"
    assert (await road.decide(slow, "return", reason="剂量过大")).status_code == 200
    fixed = {**doubtful(), "prescription_id": one["prescription_id"], "version": 2}
    command = CorrectPrescription(order_id=slow, prescription=SheetInput.model_validate(fixed))
    await road.hospital.post("/v1/prescriptions/correct", command, "hospital-a")
    await road.desk.follow(road.hospital)
    assert (await road.decide(slow, "approve", version=1)).json()["code"] == "version_changed"
    # The shift ends: its two leases go to the colleague, who has them alone from now on.
    await road.take(urgent)
    over = {"pharmacist": "P-1", "to": "P-2", "to_title": "2.2"}
    ended = await road.desk.post("/v1/reviews/hand-over", over, "reviewers")
    handed = ended.json()
    assert {item["order_id"] for item in handed["handed_over"]} == {str(slow), str(urgent)}
    assert handed["refused"] == []
    assert (await road.take(slow)).json()["code"] == "case_taken"
    own = (await road.desk.get("/v1/reviews?state=all&pharmacist=P-2", "reviewers")).json()
    assert len(own["cases"]) == 2
    assert (await road.decide(slow, "approve", "P-2")).status_code == 200
    case = (await road.desk.get(f"/v1/reviews/{slow}", "reviewers")).json()
    acts = [(act["pharmacist"], act["decision"]) for act in case["prescriptions"][0]["acts"]]
    assert acts == [("P-1", "return"), ("P-2", "approve")]
    # What is left to a senior nobody else takes; and when nobody does, operations hear of it.
    lease = next(i["lease"] for i in handed["handed_over"] if i["order_id"] == str(urgent))
    shown = (await road.take(urgent, "P-2")).json()["prescriptions"][0]
    left = {"order_id": str(urgent), "pharmacist": "P-2", "lease": lease, "to": "senior"}
    left |= {key: shown[key] for key in ("prescription_id", "version", "seen")}
    sent = await road.desk.post("/v1/reviews/escalate", {**left, "reason": "罕见"}, "reviewers")
    assert sent.json()["wants"] == "senior"
    assert (await road.take(urgent, "P-5")).json()["code"] == "senior_needed"
    await set_time(database, NOW + timedelta(minutes=2))
    assert await road.desk.fire() == 1
    (delayed,) = await road.desk.bodies("review.ReviewDelayed")
    assert (delayed["order_id"], delayed["waiting"], delayed["taken"]) == (str(urgent), 1, False)
    taken = (await road.take(urgent, "P-3")).json()
    back = {"order_id": str(urgent), "pharmacist": "P-3", "lease": taken["lease"]}
    assert (await road.desk.post("/v1/reviews/give-back", back, "reviewers")).status_code == 200
    assert await road.queue() == [str(urgent)]
