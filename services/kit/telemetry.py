"""Structured logs without personal data, and all metrics of all services.

A log line keeps only the fields of an allow-list: what is not known to be harmless stays out, and
its name is listed under `refused`, so that nobody wonders where it went.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

import asyncpg
import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from pydantic import ValidationError
from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger

from services.kit.config import Settings

# Identifiers, codes, counts and durations only; never free text that a person typed.
# fmt: off
LOG_FIELDS = frozenset({
    "action", "actor_kind", "age_s", "answered", "ask_id", "assigned", "attempt", "attempts",
    "batch", "bytes", "causation_id", "channel", "city", "code", "correlation_id", "count",
    "deadline", "delay_s", "due_at", "duration_ms", "end", "epoch", "error", "error_code",
    "event", "event_id", "events", "expected", "fault", "field", "first", "frames",
    "from_state", "generation", "host", "http_status", "id", "kind", "lag", "last", "lease_s",
    "level", "level_from", "listener", "logger", "message_id", "message_type", "messages",
    "method", "missing", "next_offset", "offset", "open", "order_id", "orders", "outbox_age_s",
    "outcome", "part", "partition", "parts", "pause_s", "pharmacies", "pharmacy_id", "phase",
    "pid", "port", "position", "purpose", "queue", "reason_code", "refused", "role", "route",
    "rows", "rule_id", "seq", "service", "shard", "signal", "size", "slot", "source", "speed",
    "spent_ms", "sqlstate", "stage", "start", "state", "status", "step", "table", "task",
    "tenant_id", "tenant_kind", "time", "timer", "topic", "topics", "total", "type",
    "unanswered", "url_path", "verdict", "version", "waited_s", "worker",
})
# fmt: on
_TEXT_MAX = 200
_SENTENCE_MAX = 120
_LIST_MAX = 32

MetricName = Literal[
    "audit_rows_total",
    "batch_messages",
    "batch_retries_total",
    "batch_seconds",
    "calls_total",
    "call_seconds",
    "commands_total",
    "disputes_overdue_total",
    "gaps_total",
    "http_requests_total",
    "http_seconds",
    "last_commit_age_seconds",
    "lag_messages",
    "log_fields_refused_total",
    "messages_total",
    "oldest_unread_seconds",
    "orders_in_flight",
    "orders_total",
    "outbox_age_seconds",
    "outbox_rows",
    "parked_open",
    "parked_total",
    "partitions_assigned",
    "payer_silent",
    "promise_total",
    "rebalances_total",
    "relay_failures_total",
    "relay_sent_total",
    "service_events_total",
    "stage_seconds",
    "timers_fired_total",
    "timers_held",
    "vault_keys_forgotten_total",
    "vault_opened_total",
    "vault_refused_total",
    "vault_sealed_total",
    "waiting_open",
]


class Metric(NamedTuple):
    """One metric: its kind, what it means, and its labels beside `service`."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[MetricName, Metric] = {
    "audit_rows_total": Metric("counter", "Rows added to the audit chains."),
    "batch_messages": Metric("histogram", "Messages in one transaction.", ("source",)),
    "batch_retries_total": Metric("counter", "Batches tried again after a passing fault."),
    "batch_seconds": Metric("histogram", "One batch, from its first message to the commit.", ()),
    "calls_total": Metric("counter", "Outside calls by outcome.", ("kind", "outcome")),
    "call_seconds": Metric("histogram", "One outside call on the wire.", ("kind",)),
    "commands_total": Metric("counter", "Commands by type and verdict.", ("type", "verdict")),
    "disputes_overdue_total": Metric("counter", "Disputes that nobody decided in time."),
    "gaps_total": Metric("counter", "Jumps in offsets that were rewound.", ("topic",)),
    "http_requests_total": Metric("counter", "Answers by route and status.", ("route", "status")),
    "http_seconds": Metric("histogram", "One HTTP request.", ("route",)),
    "last_commit_age_seconds": Metric("gauge", "Since the last batch was committed."),
    "lag_messages": Metric("gauge", "Messages between the position and the log's end.", ("topic",)),
    "log_fields_refused_total": Metric("counter", "Log fields outside the allow-list.", ("field",)),
    "messages_total": Metric("counter", "Messages by type and verdict.", ("type", "verdict")),
    "oldest_unread_seconds": Metric("gauge", "Age of the oldest message not yet applied."),
    "orders_in_flight": Metric("gauge", "Orders that are not closed."),
    "orders_total": Metric("counter", "Closed orders by outcome.", ("outcome",)),
    "outbox_age_seconds": Metric("gauge", "Age of the oldest fact not yet published."),
    "outbox_rows": Metric("gauge", "Facts not yet published."),
    "parked_open": Metric("gauge", "Dead letters that nobody has dealt with."),
    "parked_total": Metric("counter", "Messages that could not be applied.", ("type", "code")),
    "partitions_assigned": Metric("gauge", "Partitions this process reads."),
    "payer_silent": Metric("gauge", "Whether an area's payer is left alone for now.", ("area",)),
    "promise_total": Metric("counter", "Deliveries by tier and result.", ("tier", "result")),
    "rebalances_total": Metric("counter", "Changes of the assignment."),
    "relay_failures_total": Metric("counter", "Sends that failed and were begun again."),
    "relay_sent_total": Metric("counter", "Facts published.", ("topic",)),
    "service_events_total": Metric("counter", "What a service counts for itself.", ("name",)),
    "stage_seconds": Metric("histogram", "Time an order spent in one stage.", ("stage",)),
    "timers_fired_total": Metric("counter", "Timers that came due.", ("kind",)),
    "timers_held": Metric("gauge", "Due timers whose inputs are not read up to the due time."),
    "vault_keys_forgotten_total": Metric("counter", "Data keys deleted: persons erased."),
    "vault_opened_total": Metric("counter", "Personal data opened.", ("purpose",)),
    "vault_refused_total": Metric("counter", "Attempts to open that failed.", ("model", "code")),
    "vault_sealed_total": Metric("counter", "Personal data sealed.", ("purpose",)),
    "waiting_open": Metric("gauge", "Messages that came too early and wait."),
}
_BUCKETS: Mapping[str, tuple[float, ...]] = {
    "batch_messages": (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
    "stage_seconds": (1, 5, 15, 60, 180, 300, 600, 900, 1200, 1800, 2700, 3600, 7200, 14400),
}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

if set(METRICS) != set(get_args(MetricName)):
    raise RuntimeError("every metric name needs a line in METRICS")


class _Meters:
    """The registry of this process."""

    def __init__(self) -> None:
        self.service = "unnamed"
        self.registry = CollectorRegistry()
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._meters: dict[str, Counter | Gauge | Histogram] = {}
        # By name and labels: finding the one line to count on costs more than counting.
        self.counters: dict[tuple[str, ...], Counter] = {}

    def counter(self, name: MetricName) -> Counter:
        meter = self._meters.get(name) or self._make(name, "counter")
        assert isinstance(meter, Counter), f"{name} is no counter"
        return meter

    def gauge(self, name: MetricName) -> Gauge:
        meter = self._meters.get(name) or self._make(name, "gauge")
        assert isinstance(meter, Gauge), f"{name} is no gauge"
        return meter

    def histogram(self, name: MetricName) -> Histogram:
        meter = self._meters.get(name) or self._make(name, "histogram")
        assert isinstance(meter, Histogram), f"{name} is no histogram"
        return meter

    def _make(self, name: MetricName, kind: str) -> Counter | Gauge | Histogram:
        metric = METRICS[name]
        if metric.kind != kind:
            raise TypeError(f"{name} is a {metric.kind}, not a {kind}")
        full, labels = f"yaoda_{name}", ("service", *metric.labels)
        meter: Counter | Gauge | Histogram
        if metric.kind == "histogram":
            buckets = _BUCKETS.get(name, _SECONDS)
            meter = Histogram(full, metric.meaning, labels, registry=self.registry, buckets=buckets)
        elif metric.kind == "counter":
            meter = Counter(full, metric.meaning, labels, registry=self.registry)
        else:
            meter = Gauge(full, metric.meaning, labels, registry=self.registry)
        self._meters[name] = meter
        return meter


_meters = _Meters()


def count(name: MetricName, value: float = 1, **labels: str) -> None:
    """Add to a counter."""
    found = (_meters.service, name, *labels, *labels.values())
    line = _meters.counters.get(found)
    if line is None:
        line = _meters.counter(name).labels(service=_meters.service, **labels)
        _meters.counters[found] = line
    line.inc(value)


def observe(name: MetricName, value: float, **labels: str) -> None:
    """Add one observation to a histogram; durations in seconds."""
    _meters.histogram(name).labels(service=_meters.service, **labels).observe(value)


def set_gauge(name: MetricName, value: float, **labels: str) -> None:
    """Say how much there is now."""
    _meters.gauge(name).labels(service=_meters.service, **labels).set(value)


def read(name: MetricName, **labels: str) -> float:
    """The present value of a counter or gauge, for health reports and tests."""
    suffixed = {"service": _meters.service, **labels}
    return _meters.registry.get_sample_value(f"yaoda_{name}", suffixed) or 0.0


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(_meters.registry)


def configure(settings: Settings, service: str) -> None:
    """Send all logs of this process, those of libraries too, to stdout as lines of JSON."""
    _meters.service = service
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _stamp(service),
    ]
    structlog.configure(
        processors=[*shared, keep_allowed, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_StdoutFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _StdoutHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _foreign],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                keep_allowed,
                _render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    for chatty in ("aiokafka", "faust", "mode", "httpx", "httpcore", "asyncio", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def logger(name: str) -> FilteringBoundLogger:
    """A logger; `log.info("what_happened", order_id=…)`. Pass exceptions as `error=exc`."""
    made: FilteringBoundLogger = structlog.get_logger(from_logger=name)
    return made


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line inside carries these fields, in this task alone: `bound(order_id=…)`."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def keep_allowed(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop and count the fields outside the allow-list; exceptions become type and place."""
    caught = event.pop("exc_info", None)
    if caught:
        error = caught if isinstance(caught, BaseException) else _current(caught)
        event.setdefault("error", error)
    refused = sorted(set(event) - LOG_FIELDS)
    for name in refused:
        del event[name]
        count("log_fields_refused_total", field=name[:40])
    if refused:
        event["refused"] = refused
    for name, value in list(event.items()):
        event[name] = _harmless(event, name, value)
    return event


def describe(error: BaseException) -> str:
    """An error without the values in it: a database or validation message may quote a person."""
    name = type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        named = (error.sqlstate, error.table_name, error.constraint_name)
        return f"{name} {' '.join(part for part in named if part)}".strip()
    if isinstance(error, ValidationError):
        fields = [".".join(map(str, item["loc"])) for item in error.errors(include_input=False)]
        return f"{name} {error.title}: {', '.join(fields[:5])}"
    if isinstance(error, OSError):
        return f"{name} {error.strerror or ''}".strip()
    # A class whose texts never quote data says so with `log_safe = True`.
    return f"{name}: {error}" if getattr(error, "log_safe", False) else name


def _current(caught: Any) -> BaseException | None:
    return caught[1] if isinstance(caught, tuple) else sys.exc_info()[1]


def _harmless(event: MutableMapping[str, Any], name: str, value: Any) -> Any:
    if isinstance(value, BaseException):
        frames = traceback.extract_tb(value.__traceback__)[-12:]
        if frames:
            event["frames"] = [f"{_module(f.filename)}:{f.lineno} {f.name}" for f in frames]
        code = getattr(value, "code", None)
        if isinstance(code, str):
            event["error_code"] = code
        return describe(value)
    if isinstance(value, str):
        value = _QUOTE.sub("…", value) if name == "error" else value
        return value if len(value) <= _TEXT_MAX else value[:_TEXT_MAX] + "…"
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, UUID | datetime):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_harmless(event, name, item) for item in list(value)[:_LIST_MAX]]
    # A model or a mapping may hold anything; its type is all that may be said.
    return f"<{type(value).__name__}>"


def _module(path: str) -> str:
    return "/".join(path.rsplit("/", 3)[-3:])


def _stamp(service: str) -> Processor:
    def stamp(
        _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        event["service"] = service
        if "from_logger" in event:
            event["logger"] = event.pop("from_logger")
        return event

    return stamp


# From the first quote, bracket or colon on, a text about an error may repeat what a person typed.
_QUOTE = re.compile(r"[(\['\":\n].*", re.DOTALL)
_REPR = re.compile(r"(exception|result)=.*", re.DOTALL)


def _foreign(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A library's own sentence: its first line, without the values it may quote."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
        if record.exc_info:
            event["exc_info"] = record.exc_info
            record.exc_info, record.exc_text = None, None
    first = str(event.get("event", "")).strip().partition("\n")[0]
    event["event"] = _REPR.sub(r"\1=…", first)[:_SENTENCE_MAX]
    return event


def _render(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(dict(event), default=str).decode()


class _StdoutHandler(logging.Handler):
    """Looks stdout up at each line, as it may be replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:
            self.handleError(record)


class _StdoutFactory:
    def __call__(self, *args: Any) -> structlog.PrintLogger:
        return structlog.PrintLogger(sys.stdout)
