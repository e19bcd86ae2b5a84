"""What is wrong with an instance, in words, and what to do: pure, from one snapshot."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

MB = 1_000_000

LAG_MAX = 5000
WAITING_S_MAX = 120.0
OVERDUE_S_MAX = 60.0
SILENT_S_MAX = 30.0
RESTARTS_MAX = 3
FREE_BYTES_FAULT = 1000 * MB
FREE_BYTES_WARN = 3000 * MB
CONNECTIONS_SHARE_MAX = 0.9


@dataclass(frozen=True)
class ProcessLook:
    """One process as its supervisor and its own /readyz tell of it."""

    name: str
    pid: int | None
    ready: bool
    restarts: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BlockedLook:
    """Orders that a parked message blocks, by its cause; ages in the instance's time."""

    code: str
    orders: int
    oldest_s: float


@dataclass(frozen=True)
class CallsLook:
    """Open outside calls of one kind."""

    kind: str
    # Tried again and again, or answered "unknown" more than once and never otherwise.
    doubtful: int = 0
    # Due or with a lapsed lease for long: nobody makes them.
    abandoned: int = 0
    # Of money that has to come home: refused more than once and never answered otherwise.
    refused: int = 0


@dataclass(frozen=True)
class ServiceLook:
    """One service's tables; lapses of real time in seconds, others in the instance's time."""

    name: str
    unsent: int = 0
    # Shards with rows to publish whose relay gives no sign of life.
    silent_shards: int = 0
    lag: int = 0
    # Partitions with unread records whose position did not move while we watched.
    stuck_parts: tuple[str, ...] = ()
    # Partitions that end before what was read of them.
    beyond_parts: tuple[str, ...] = ()
    blocked: tuple[BlockedLook, ...] = ()
    waiting: int = 0
    waiting_oldest_s: float = 0.0
    # Kind → how many and for how long overdue.
    overdue: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    calls: tuple[CallsLook, ...] = ()
    # Worker slot → seconds since it was last heard of.
    silent_workers: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """Everything the doctor looked at; `postgres` and `kafka` are what went wrong, or empty."""

    home: str
    supervisor: int | None
    processes: tuple[ProcessLook, ...] = ()
    postgres: str = ""
    kafka: str = ""
    services: tuple[ServiceLook, ...] = ()
    # Cities with orders due whose lease has lapsed: seconds since.
    lapsed_leases: Mapping[str, float] = field(default_factory=dict)
    # The simulated clock stood still for all the time we watched.
    clock_stood: bool = False
    watched_s: float = 0.0
    disk_free: int = 10**12
    connections: tuple[int, int] = (0, 1)
    archive: str = ""
    # What is not there of the tables.
    unprepared: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, of what, and what to do."""

    code: str
    subject: str
    what: str
    advice: str


def diagnose(snapshot: Snapshot) -> list[Finding]:
    """All findings, causes before what follows from them; empty when nothing is wrong."""
    found = list(_machine(snapshot))
    if snapshot.supervisor is None:
        advice = f"Start it with `yaoda up --home {snapshot.home}`."
        return [*found, Finding("not_running", "instance", "Nothing runs in this folder.", advice)]
    found += _stores(snapshot)
    for process in snapshot.processes:
        found += _process(process)
    # A worker of a process that is down, or was taken away, is silent for that reason.
    alive = {process.name for process in snapshot.processes if process.pid}
    for service in snapshot.services:
        for look in _SERVICE:
            found += look(service)
        found += _silent(service, alive)
    found += _leases(snapshot)
    return found


def _machine(snapshot: Snapshot) -> Iterator[Finding]:
    free = snapshot.disk_free
    if free < FREE_BYTES_WARN:
        urgent = free < FREE_BYTES_FAULT
        what = f"Only {free // MB} MB are free" + (
            ": the next start is refused." if urgent else "."
        )
        advice = (
            "Make room before PostgreSQL and Kafka stop; old replays below .yaoda/ can go, and "
            "after `yaoda prune` new orders take the room of old ones."
        )
        yield Finding("disk_full" if urgent else "disk_low", "disk", what, advice)
    if snapshot.clock_stood:
        yield Finding(
            "clock_stopped",
            "clock",
            f"Simulated time stood still for the {snapshot.watched_s:.0f} s we watched, "
            "so no timer becomes due.",
            "While a replay runs, wait; its log says what time waits for. "
            "If none runs, start this folder's replay again, or use another folder.",
        )


def _stores(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.postgres:
        yield Finding(
            "postgres_away",
            "postgres",
            f"PostgreSQL does not answer: {snapshot.postgres}. Nothing is lost; all waits for it.",
            "See logs/postgres.log. The supervisor starts it again; if it keeps ending, "
            "look at the disk, then at `yaoda restore`.",
        )
    if snapshot.unprepared:
        yield Finding(
            "not_prepared",
            "postgres",
            f"The tables are not all there: {snapshot.unprepared}.",
            "If it is just starting, wait; else logs/migrate.log says what went wrong.",
        )
    if snapshot.kafka:
        yield Finding(
            "kafka_away",
            "kafka",
            f"Kafka does not answer: {snapshot.kafka}. Commands are taken, facts wait to go out.",
            "See logs/kafka.log. The supervisor starts it again, and what waits goes out then.",
        )
    used, most = snapshot.connections
    if used > CONNECTIONS_SHARE_MAX * most:
        yield Finding(
            "connections_short",
            "postgres",
            f"{used} of {most} connections to PostgreSQL are in use.",
            "Stop a worker, or whoever else is connected (pg_stat_activity names them).",
        )
    if snapshot.archive:
        yield Finding(
            "archive_stuck",
            "backup",
            f"The write-ahead log is not received by the backup: {snapshot.archive}. "
            "Commits wait for it.",
            "See logs/wal.log and the free space of the backup's folder; "
            "`yaoda backup stop` goes on without it.",
        )


def _process(process: ProcessLook) -> Iterator[Finding]:
    name = process.name
    log = f"logs/{name}.log"
    if process.pid is None:
        yield Finding(
            "process_down",
            name,
            f"{name} does not run; it was started again {process.restarts} times.",
            f"The supervisor tries again by itself; the end of {log} says why it ended.",
        )
        return
    if process.restarts > RESTARTS_MAX:
        yield Finding(
            "process_restarts",
            name,
            f"{name} was started again {process.restarts} times.",
            f"Look for `supervisor:` in {log}, and at what stands before it.",
        )
    for code, detail in process.reasons.items():
        # The edge only repeats what the services say themselves.
        if code == "service_not_ready":
            continue
        yield Finding(f"not_ready_{code}", name, f"{name} says: {detail}.", _advice(code, log))
    if not process.ready and not process.reasons:
        yield Finding(
            "not_answering", name, f"{name} runs and does not answer.", f"See the end of {log}."
        )


def _advice(code: str, log: str) -> str:
    return _ADVICE.get(code, f"See {log}.")


_ADVICE = {
    "starting": "Wait a moment and ask again.",
    "database_away": "See what is said of PostgreSQL.",
    "no_partitions": "It waits for Kafka to give it partitions: see what is said of Kafka.",
    "rebalancing": "Workers come and go: see which process restarts.",
    "batch_stuck": "One batch does not get through: its log names the fault it waits out.",
    "outbox_old": "The relay cannot publish: see what is said of Kafka, else restart the process.",
    "reading_stopped": "Too many messages of one kind are bad: `yaoda dlq list --service` shows "
    "them. Mend their producer or this service's code, redrive them, then restart the process.",
    "log_truncated": "The topic lost records that were not read: see 'A broker that lost records' "
    "in the operating guide; never move a position by hand.",
}


def _relay(service: ServiceLook) -> Iterator[Finding]:
    if service.silent_shards and service.unsent:
        yield Finding(
            "relay_stuck",
            service.name,
            f"{service.unsent} facts of {service.name} wait to be published, and the relay of "
            f"{service.silent_shards} shards has given no sign of life for {SILENT_S_MAX:.0f} s.",
            "See whether the process runs and has partitions; restart it if it does.",
        )


def _broker_lost(service: ServiceLook) -> Iterator[Finding]:
    if service.beyond_parts:
        shown = ", ".join(service.beyond_parts[:3])
        yield Finding(
            "broker_lost_records",
            service.name,
            f"{service.name} has read further than {len(service.beyond_parts)} logs go: {shown}.",
            "The broker has lost records, and what it is given next would be taken for read. Stop "
            "and start the instance; with a broker of your own, `services.kit.topics --republish`.",
        )


def _lag(service: ServiceLook) -> Iterator[Finding]:
    if service.stuck_parts:
        shown = ", ".join(service.stuck_parts[:3])
        yield Finding(
            "reading_stuck",
            service.name,
            f"{service.name} has {service.lag} records to read and does not move on {shown}.",
            "If it says why it is not ready, begin there; else its log. "
            "A worker that stands for 60 s restarts by itself.",
        )
    elif service.lag > LAG_MAX:
        yield Finding(
            "lag",
            service.name,
            f"{service.name} is {service.lag} records behind, and reads.",
            "It catches up by itself; if it falls back further, add a worker.",
        )


def _blocked(service: ServiceLook) -> Iterator[Finding]:
    for blocked in service.blocked:
        yield Finding(
            "orders_blocked",
            service.name,
            f"{blocked.orders} orders are blocked in {service.name} by messages with "
            f"{blocked.code}, the oldest for {_lapse(blocked.oldest_s)}.",
            f"`yaoda dlq list --service {service.name} --code {blocked.code}`, then edit, replay "
            "or discard.",
        )


def _waiting(service: ServiceLook) -> Iterator[Finding]:
    if service.waiting and service.waiting_oldest_s > WAITING_S_MAX:
        yield Finding(
            "early_too_long",
            service.name,
            f"{service.waiting} messages wait in {service.name} for something that must come "
            f"before them, the oldest for {_lapse(service.waiting_oldest_s)}.",
            "See which service before it is behind or has blocked orders; "
            "after 10 minutes they are parked.",
        )


def _timers(service: ServiceLook) -> Iterator[Finding]:
    for kind, (count, age_s) in sorted(service.overdue.items()):
        if age_s > OVERDUE_S_MAX:
            yield Finding(
                "timers_overdue",
                service.name,
                f"{count} timers `{kind}` of {service.name} are overdue, the oldest by "
                f"{_lapse(age_s)}.",
                "A timer fires only when all that was written before it is read: see the lag. "
                "Without any, restart the process.",
            )


def _calls(service: ServiceLook) -> Iterator[Finding]:
    for calls in service.calls:
        if calls.doubtful:
            yield Finding(
                "outcome_unknown",
                service.name,
                f"The outcome of {calls.doubtful} calls `{calls.kind}` is unknown after several "
                "tries.",
                "Ask the far side whether it is up; the calls are repeated with the same keys "
                "by themselves, never send them by hand.",
            )
        if calls.abandoned:
            yield Finding(
                "calls_abandoned",
                service.name,
                f"{calls.abandoned} calls `{calls.kind}` are due and nobody makes them.",
                f"Restart {service.name}; its leases have lapsed, so nothing is sent twice.",
            )
        if calls.refused:
            yield Finding(
                "refused_again",
                service.name,
                f"For {calls.refused} orders `{calls.kind}` is refused each time: money that has "
                "to come home does not.",
                "Ask the far side why; it is tried again by itself, at most ten minutes apart. "
                "After eight refusals it stands in /v1/disputes: two persons may write it off.",
            )


def _silent(service: ServiceLook, alive: Set[str]) -> Iterator[Finding]:
    for slot, age_s in sorted(service.silent_workers.items()):
        name = service.name if slot == 0 else f"{service.name}.{slot}"
        if age_s > SILENT_S_MAX and name in alive:
            yield Finding(
                "worker_silent",
                service.name,
                f"Worker {name} gave its last sign of life {_lapse(age_s)} ago.",
                "It hangs, or was stopped for good; end its process, the supervisor starts it.",
            )


def _leases(snapshot: Snapshot) -> Iterator[Finding]:
    for city, age_s in sorted(snapshot.lapsed_leases.items()):
        if age_s > SILENT_S_MAX:
            yield Finding(
                "lease_dead",
                "dispatch",
                f"City {city} has orders due, and its lease lapsed {_lapse(age_s)} ago: "
                "nobody matches it.",
                "See whether dispatch runs and is ready; restart it if it is.",
            )


_SERVICE: tuple[Callable[[ServiceLook], Iterable[Finding]], ...] = (
    _relay,
    _broker_lost,
    _lag,
    _blocked,
    _waiting,
    _timers,
    _calls,
)


def _lapse(seconds: float) -> str:
    """A lapse of time as a person says it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
