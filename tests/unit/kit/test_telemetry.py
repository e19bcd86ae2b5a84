"""Logs say what happened and nothing about a person."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import structlog
from pydantic import BaseModel

from services.kit import telemetry
from services.kit.config import Settings

CANARY = "CANARY-13800138000"


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    telemetry.configure(Settings(log_level="info"), "claim")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_the_bound_order(capsys: pytest.CaptureFixture[str]) -> None:
    order = uuid4()
    log = telemetry.logger("here")
    with telemetry.bound(order_id=order):
        log.info("priced", attempt=2, outcome="done")
    log.debug("not at this level")
    log.warning("after")
    first, second = lines(capsys)
    assert first["time"].endswith("+00:00")
    del first["time"]
    assert first == {
        "event": "priced",
        "level": "info",
        "logger": "here",
        "service": "claim",
        "order_id": str(order),
        "attempt": 2,
        "outcome": "done",
    }
    assert "order_id" not in second


def test_an_unknown_field_is_dropped_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    before = telemetry.read("log_fields_refused_total", field="phone")
    telemetry.logger("here").info("called", phone=CANARY)
    (line,) = lines(capsys)
    assert CANARY not in json.dumps(line)
    assert line["refused"] == ["phone"]
    assert telemetry.read("log_fields_refused_total", field="phone") == before + 1


class Person(BaseModel):
    phone: int


def _validation() -> Exception:
    try:
        Person.model_validate({"phone": CANARY})
    except ValueError as error:
        return error
    raise AssertionError


def _database() -> Exception:
    error = asyncpg.UniqueViolationError(f"Key (phone)=({CANARY}) exists")
    error.detail = CANARY
    error.constraint_name = "one_phone"
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError(CANARY), "ValueError"),
        (_validation(), "ValidationError Person: phone"),
        (_database(), "UniqueViolationError 23505 one_phone"),
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError Connection"),
    ],
)
def test_an_exception_keeps_its_type_and_place_only(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = telemetry.logger("here")
    try:
        raise error
    except Exception as caught:
        log.error("failed", error=caught)
        log.exception("failed")
        log.error("failed", error=repr(caught))
    out = capsys.readouterr().out
    assert CANARY not in out
    first, second, third = [json.loads(line) for line in out.splitlines()]
    assert first["error"].startswith(said)
    assert second["error"] == first["error"]
    assert any("test_telemetry.py" in frame for frame in second["frames"])
    assert third["error"].endswith("…")


def test_an_error_that_declares_itself_harmless_is_quoted() -> None:
    class GapError(Exception):
        log_safe = True

    assert telemetry.describe(GapError("5 after 3")) == "GapError: 5 after 3"


def test_models_and_mappings_are_never_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.logger("here").info("x", state={"phone": CANARY}, source=Person(phone=1), rows=[1, 2])
    (line,) = lines(capsys)
    assert line["state"] == "<dict>"
    assert line["source"] == "<Person>"
    assert line["rows"] == [1, 2]


async def test_libraries_log_through_the_same_filter(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        logging.getLogger("faust.agents").error("Agent crashed\n%s", CANARY, exc_info=error)
        task = f"Task exception was never retrieved future: <Task exception={error!r}>"
        logging.getLogger("asyncio").error(task)
    logging.getLogger("aiokafka.conn").info("chatter")
    await asyncio.sleep(0)
    out = capsys.readouterr().out
    assert CANARY not in out
    first, second = [json.loads(line) for line in out.splitlines()]
    assert (first["event"], first["error"]) == ("Agent crashed", "ValueError")
    assert first["logger"] == "faust.agents"
    assert second["event"].startswith("Task exception was never retrieved")


def test_metrics_carry_the_service() -> None:
    telemetry.count("messages_total", type="claim.ClaimPriced", verdict="applied")
    telemetry.observe("batch_seconds", 0.01)
    telemetry.set_gauge("outbox_rows", 7)
    text = telemetry.exposition().decode()
    assert 'yaoda_outbox_rows{service="claim"} 7.0' in text
    assert 'yaoda_messages_total{service="claim",type="claim.ClaimPriced",' in text
    assert "yaoda_batch_seconds_bucket" in text
    assert telemetry.read("outbox_rows") == 7


def test_a_metric_is_used_as_what_it_is() -> None:
    with pytest.raises((TypeError, AssertionError)):
        telemetry.count("outbox_rows")
    with pytest.raises(ValueError, match="label"):
        telemetry.count("parked_total", type="x")
