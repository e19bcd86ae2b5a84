"""What the pipeline benchmark takes, how it counts, and when it gives no figure."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bench.pipeline import past
from bench.pipeline.command import Options, parse, processes
from bench.pipeline.control import MESSAGE_BYTES, first_message
from bench.pipeline.load import Mark, Marks, bench_world, scripts
from bench.pipeline.report import BARE_PER_S_MIN, Measured, beside, quantiles, report
from bench.pipeline.ways import answer_of, over_intake
from schemas.claim import AnswerAsk
from schemas.dispatch import AcceptOffer
from schemas.review import DecideCase, TakeCase
from services.commands import bench
from services.local.processes import SERVICES
from services.sandbox.fates import Fates
from services.sandbox.profile import PROFILES, load
from services.sandbox.stage import Entry

ORDER = UUID("019b0000-0000-7000-8000-000000000001")


def measured(**changes: Any) -> Measured:
    known: dict[str, Any] = {
        "workers": 1,
        "delivered": 300,
        "seconds": 2.0,
        "cpu_s": {"ops": 0.6, "claim": 1.2},
        "latency_ms": {"released": {"p50": 10.0, "p99": 40.0}},
        "broken": [],
    }
    return Measured(**(known | changes))


def test_the_report_has_the_keys_that_others_rely_on() -> None:
    told = report({"per_s": 2000.0}, [measured()])
    assert (told["yaoda_per_s"], told["bare_per_s"], told["ratio"]) == (150.0, 2000.0, 0.075)
    assert told["p99_ms"] == 40.0
    assert list(told["cpu_s_per_1000"].items()) == [("claim", 4.0), ("ops", 2.0)]
    assert told["failed"] == []


def test_a_slow_control_gives_no_ratio_but_a_sentence() -> None:
    told = report({"per_s": BARE_PER_S_MIN - 1}, [measured()])
    assert told["ratio"] is None
    assert told["yaoda_per_s"] is None
    assert told["bare_per_s"] == BARE_PER_S_MIN - 1
    assert "The control did 1499 lifecycles a second" in told["failed"][0]
    assert report({"per_s": BARE_PER_S_MIN}, [measured()])["failed"] == []


def test_a_broken_invariant_gives_no_figure() -> None:
    told = report({"per_s": 2000.0}, [measured(broken=["I3", "I8"])])
    assert (told["yaoda_per_s"], told["ratio"], told["p99_ms"]) == (None, None, None)
    assert told["failed"] == ["With 1 workers a service these do not hold: I3, I8."]
    # What was measured stays readable for whoever looks for the fault.
    assert told["workers"]["1"]["yaoda_per_s"] == 150.0


def test_a_run_that_delivered_nothing_gives_no_figure() -> None:
    told = report(None, [measured(delivered=0)])
    assert told["yaoda_per_s"] is None
    assert told["failed"] == ["With 1 workers a service no order was delivered."]


def test_without_a_control_there_is_a_rate_but_no_ratio() -> None:
    told = report(None, [measured(), measured(workers=2, delivered=500)])
    assert (told["yaoda_per_s"], told["ratio"], told["bare_per_s"]) == (150.0, None, None)
    assert told["workers"]["2"]["yaoda_per_s"] == 250.0


def test_a_loop_is_told_by_the_control_before_and_after_it() -> None:
    told = beside(measured(), [1000.0, 2000.0])
    assert (told["yaoda_per_s"], told["control_per_s"], told["ratio"]) == (
        150.0,
        [1000.0, 2000.0],
        0.1,
    )
    assert told["cpu_s_per_1000_total"] == 6.0
    assert beside(measured(), [])["ratio"] is None


def test_quantiles_are_of_the_values_given() -> None:
    assert quantiles([]) == {}
    spread = quantiles([float(n) for n in range(101)])
    assert spread == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0, "count": 101}


def test_options_have_the_documented_defaults() -> None:
    assert parse([]) == Options()
    assert parse([]).rate == 50.0
    chosen = parse(["--workers", "1,2,4", "--rate", "10", "--report", "r.json", "--no-control"])
    assert (chosen.workers, chosen.rate, chosen.no_control) == ((1, 2, 4), 10.0, True)
    assert chosen.report == Path("r.json")


@pytest.mark.parametrize(
    "argv",
    [["--rate", "0"], ["--rate", "inf"], ["--orders", "0"], ["--workers", "1,0"], ["--rat", "x"]],
)
def test_options_that_make_no_sense_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(argv)


def test_a_copied_order_is_older_and_nobody_elses() -> None:
    made = past._copy("ops", "feed", [("subject", "uuid"), ("tenant_id", "uuid")], 1, 3)
    assert made.startswith("INSERT INTO ops.feed (subject, tenant_id) SELECT (lpad(")
    assert "generate_series(1, 3) AS n ON CONFLICT DO NOTHING" in made
    assert ", tenant_id FROM model" in made, "the partner stays who it is"


def test_a_copied_order_has_a_slot_and_a_patient_of_its_own() -> None:
    columns = [("slot", "timestamptz"), ("person", "text"), ("number", "int4")]
    made = past._copy("claim", "person", columns, 1, 3)
    assert "(slot - n * interval '600000 ms')::timestamptz, person || '-' || n, number FROM" in made


def test_more_workers_are_more_processes_of_the_services_alone() -> None:
    assert processes(1) == list(SERVICES)
    more = processes(4)
    assert {"dispatch", "dispatch.1", "dispatch.2", "dispatch.3", "ops.3"} <= set(more)
    assert not {"edge.1", "payer.1", "payment.1", "dispatch.4"} & set(more)


def test_half_of_the_commands_go_over_the_topics() -> None:
    assert [over_intake(AcceptOffer, n) for n in (1, 2, 3, 4)] == [False, True, False, True]
    assert not over_intake(TakeCase, 2)
    assert over_intake(DecideCase, 1)
    assert not over_intake(AnswerAsk, 2), "claim has no intake"


def test_a_reply_reads_like_an_answer_over_http() -> None:
    taken = answer_of({"accepted": True, "order_id": str(ORDER), "detail": "t0ken"})
    assert taken.ok
    assert (taken.body["order_id"], taken.body["token"]) == (str(ORDER), "t0ken")
    refused = answer_of({"accepted": False, "code": "offer_closed", "detail": "too late"})
    assert (refused.ok, refused.code) == (False, "offer_closed")


def test_the_control_moves_messages_of_the_stated_size() -> None:
    key, value = first_message()
    assert len(value) == MESSAGE_BYTES
    assert len(key) == 36


def entry(kind: str, at: float, **data: Any) -> Entry:
    return Entry(kind, ORDER, datetime.fromtimestamp(at, UTC), data)


def test_latency_counts_from_the_intended_moment() -> None:
    marks = Marks(by_number={"n-1": Mark(due=1000.0)})
    # The chain may hear of the offer before the hospital hears of its order.
    marks.hear(entry("dispatch.OfferMade", 1000.4))
    marks.hear(entry("prescription.PrescriptionIssued", 1000.1, order={"order_number": "n-1"}))
    marks.hear(entry("dispatch.PromiseMade", 1000.3))
    marks.hear(entry("dispatch.OfferMade", 1007.0))
    assert marks.ended == 0
    for _hearer in ("hospital", "chain"):
        marks.hear(entry("claim.OrderClosed", 1001.0, outcome="delivered"))
    assert marks.ended == 1
    closed = marks.by_number["n-1"].closed
    assert marks.outcomes(closed, closed + 1) == {"delivered": 1}
    assert marks.outcomes(closed + 1, closed + 2) == {}
    told = marks.latency_ms(["n-1"])
    assert told["released"]["p99"] == 300.0
    assert told["first_offer"]["p99"] == 400.0


def test_the_city_of_the_benchmark_is_open_at_any_hour() -> None:
    profile = load(PROFILES / "bench.toml")
    world = bench_world(profile, 1)
    assert all(shop.open_24h for shop in world.shops)
    made = scripts(world, Fates(profile, 1), 7)
    first, second = next(made), next(made)
    assert (first.number, second.number) == ("bench-000000007", "bench-000000008")
    assert len(first.submit.prescriptions) == 1
    assert first.cancel_at is None


def test_a_benchmark_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["nothing"]) == bench.UNKNOWN
    assert "pipeline" in capsys.readouterr().err
    assert "pipeline" in bench.offered()
