"""A submission that nobody could read: shown without the person, corrected, and then taken."""

import httpx
import pytest

from services.kit import audit
from services.kit.ids import new_id
from services.prescription.api import router
from services.prescription.app import SERVICE
from tests.databases import Database
from tests.integration.prescription.harness import running
from tests.unit.prescription.examples import sheet, submission

pytestmark = pytest.mark.live

WHY = {"reason": "the hospital asked for it"}


async def test_a_persons_name_is_shown_only_on_record(database: Database) -> None:
    async with running(database, SERVICE, router) as process:
        command = submission(sheet(1, prescription_id=str(new_id())))
        body = command.model_dump_json().replace('"order_number"', '"number"').encode()
        await process.intake(command, "hospital-a", body=body)

        async def ask(path: str) -> httpx.Response:
            auth = process.auth("operations")
            return await process.client.post(f"/v1/dlq{path}", json=WHY, headers=auth)

        (letter,) = (await process.get("/v1/dlq", "operations")).json()["messages"]
        assert (letter["state"], letter["code"]) == ("refused", "bad_body")
        shown = (await process.get(f"/v1/dlq/{letter['id']}", "operations")).json()
        name = command.patient.name
        assert name not in shown["body"]
        assert str(command.prescriptions[0].prescription_id) in shown["body"]
        assert name in (await ask(f"/{letter['id']}/reveal")).json()["body"]

        fixed = {"set": {"number": None, "order_number": command.order_number}, **WHY}
        edited = await process.post(f"/v1/dlq/{letter['id']}/edit", fixed, "operations")
        assert edited.status_code == 200, edited.text
        assert name not in (await process.get(f"/v1/dlq/{letter['id']}", "operations")).text
        replayed = await ask(f"/{letter['id']}/replay")
        assert replayed.json().get("verdict") == "applied", replayed.text
        (issued,) = await process.bodies("prescription.PrescriptionIssued")
        refused, taken = await process.bodies("prescription.CommandAnswered")
        assert (refused["accepted"], taken["accepted"]) == (False, True)
        assert taken["order_id"] == issued["order_id"]
        rows = await process.shell.pool.fetch(
            "SELECT action FROM audit WHERE action LIKE 'dlq.%' ORDER BY action"
        )
        assert [row["action"] for row in rows] == ["dlq.edit", "dlq.replay", "dlq.reveal"]
        async with process.shell.pool.acquire() as conn:
            assert await audit.verify(conn) == []
