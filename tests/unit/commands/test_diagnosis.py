"""Given a snapshot, when the doctor looks at it, then these things are wrong."""

from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.commands.diagnosis import (
    BlockedLook,
    CallsLook,
    ProcessLook,
    ServiceLook,
    Snapshot,
    diagnose,
)
from services.commands.doctor import sentences
from services.commands.examination import _Reading, _with_lag

CLAIM = ServiceLook("claim")
DISPATCH = ProcessLook("dispatch", 7, ready=True)
HEALTHY = Snapshot("/home", 1, processes=(ProcessLook("claim", 2, ready=True), DISPATCH))


def codes(snapshot: Snapshot) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in diagnose(snapshot)]


def of_claim(**changes: Any) -> Snapshot:
    return replace(HEALTHY, services=(replace(CLAIM, **changes),))


def test_a_healthy_instance_has_no_findings() -> None:
    busy = of_claim(
        unsent=40,
        lag=300,
        waiting=2,
        waiting_oldest_s=3.0,
        overdue={"expiry": (4, 0.2)},
        calls=(CallsLook("settle"),),
        silent_workers={0: 1.9},
    )
    assert codes(busy) == []
    assert sentences([]) == ["Nothing is wrong."]


def test_nothing_runs_is_all_that_is_said() -> None:
    stopped = replace(HEALTHY, supervisor=None, postgres="refused")
    assert codes(stopped) == [("not_running", "instance")]
    assert "yaoda up --home /home" in diagnose(stopped)[0].advice


@pytest.mark.parametrize(
    ("process", "code"),
    [
        (ProcessLook("claim", None, ready=False, restarts=2), "process_down"),
        (ProcessLook("claim", 3, ready=True, restarts=9), "process_restarts"),
        (ProcessLook("claim", 3, ready=False), "not_answering"),
        (
            ProcessLook("claim", 3, ready=False, reasons={"outbox_old": "oldest waits for 40 s"}),
            "not_ready_outbox_old",
        ),
    ],
)
def test_a_process_that_does_not_work_is_named(process: ProcessLook, code: str) -> None:
    (finding,) = diagnose(replace(HEALTHY, processes=(process,)))
    assert (finding.code, finding.subject) == (code, "claim")
    assert "logs/claim.log" in finding.advice or "Kafka" in finding.advice


def test_the_edge_does_not_repeat_what_a_service_says() -> None:
    edge = ProcessLook("edge", 4, ready=False, reasons={"service_not_ready": "claim"})
    assert codes(replace(HEALTHY, processes=(edge,))) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"postgres": "ConnectionRefusedError"}, "postgres_away"),
        ({"kafka": "KafkaConnectionError"}, "kafka_away"),
        ({"unprepared": "no table"}, "not_prepared"),
        ({"disk_free": 900_000_000}, "disk_full"),
        ({"disk_free": 2_000_000_000}, "disk_low"),
        ({"clock_stood": True, "watched_s": 3.0}, "clock_stopped"),
        ({"connections": (190, 200)}, "connections_short"),
        ({"archive": "no receiver"}, "archive_stuck"),
        ({"lapsed_leases": {"310000": 90.0}}, "lease_dead"),
    ],
)
def test_what_all_services_stand_on_is_looked_at(changes: dict[str, Any], code: str) -> None:
    (finding,) = diagnose(replace(HEALTHY, **changes))
    assert finding.code == code


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"unsent": 5, "silent_shards": 2}, "relay_stuck", "5 facts"),
        ({"beyond_parts": ("review.events/4",)}, "broker_lost_records", "review.events/4"),
        ({"lag": 9000}, "lag", "9000 records behind, and reads"),
        ({"lag": 3, "stuck_parts": ("review.events/4",)}, "reading_stuck", "review.events/4"),
        ({"blocked": (BlockedLook("bad_body", 3, 600.0),)}, "orders_blocked", "3 orders"),
        ({"waiting": 1, "waiting_oldest_s": 300.0}, "early_too_long", "for 5 min"),
        ({"overdue": {"expiry": (2, 61.0)}}, "timers_overdue", "2 timers `expiry`"),
        ({"calls": (CallsLook("settle", doubtful=4),)}, "outcome_unknown", "4 calls `settle`"),
        ({"calls": (CallsLook("hold", abandoned=1),)}, "calls_abandoned", "nobody makes them"),
        ({"calls": (CallsLook("undo", refused=2),)}, "refused_again", "2 orders `undo`"),
        ({"silent_workers": {0: 31.0}}, "worker_silent", "31 s ago"),
    ],
)
def test_what_is_wrong_in_a_service_is_said_with_numbers(
    changes: dict[str, Any], code: str, words: str
) -> None:
    (finding,) = diagnose(of_claim(**changes))
    assert (finding.code, finding.subject) == (code, "claim")
    assert words in finding.what
    assert finding.advice


def test_a_worker_that_was_taken_away_is_not_missed() -> None:
    assert codes(of_claim(silent_workers={1: 90_000.0})) == []
    down = replace(of_claim(silent_workers={0: 90.0}), processes=())
    assert codes(down) == []


def test_causes_come_before_what_follows_from_them() -> None:
    snapshot = replace(of_claim(lag=9000), kafka="gone", disk_free=0)
    assert [code for code, _ in codes(snapshot)] == ["disk_full", "kafka_away", "lag"]


def test_each_finding_is_said_with_what_to_do() -> None:
    said = sentences(diagnose(of_claim(blocked=(BlockedLook("bad_body", 1, 60.0),))))
    assert said[0].startswith("claim: 1 orders are blocked in claim")
    assert said[1].startswith("  → `yaoda dlq list --service claim --code bad_body`")


def test_what_moved_between_two_looks_is_told_from_what_stands_and_from_what_was_lost() -> None:
    moving, standing, lost, away = (TopicPartition("review.events", part) for part in range(4))
    first = _Reading(
        {"claim": {moving: 5, standing: 5, lost: 5, away: 5}},
        {moving: 9, standing: 9, lost: 2},
        ("system", None),
    )
    second = _Reading(
        {"claim": {moving: 8, standing: 5, lost: 5, away: 5}},
        {moving: 9, standing: 9, lost: 2},
        ("system", None),
    )
    look = _with_lag(CLAIM, first, second)
    assert (look.lag, look.stuck_parts) == (5, ("review.events/1",))
    assert look.beyond_parts == ("review.events/2",)
