"""Which service answers which public path: the one table."""

from dataclasses import dataclass

from schemas.flow import SERVICES

MEGABYTE = 1_000_000
BODY_BYTES_MAX = 5 * MEGABYTE
IMPORT_BYTES_MAX = 256 * MEGABYTE
ANSWER_S_MAX = 30.0
# A partner's feed is asked with a wait of its own, a stream begins at once and has no end.
FEED_ANSWER_S_MAX = 90.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: `target` is its path there, as it came but for the prefix."""

    service: str
    target: bytes
    body_bytes_max: int = BODY_BYTES_MAX
    # Passed on piece by piece instead of being gathered first.
    streamed: bool = False
    answer_s_max: float = ANSWER_S_MAX
    # The caller may leave long before the answer comes.
    long: bool = False


# The first word after /v1/ decides.
OWNERS: dict[bytes, str] = {
    b"prescriptions": "prescription",
    b"reviews": "review",
    b"review": "review",
    b"drugs": "review",
    b"diagnoses": "review",
    b"slips": "review",
    b"asks": "claim",
    b"claims": "claim",
    b"ledger": "claim",
    b"disputes": "claim",
    b"payers": "claim",
    b"payouts": "claim",
    b"reconciliations": "claim",
    b"pharmacies": "network",
    b"offers": "dispatch",
    b"quotes": "dispatch",
    b"shortages": "dispatch",
    b"deliveries": "delivery",
    b"orders": "ops",
    b"at-risk": "ops",
    b"summary": "ops",
    b"events": "ops",
    b"stream": "ops",
}
PAGES = (b"/page/",)
LONG = frozenset({b"/v1/events", b"/v1/stream"})
IMPORT = b"/v1/pharmacies/import"
OPENAPI = b"openapi.json"


def find(path: bytes) -> Route | None:
    """The route of a raw, still encoded path; None when nobody answers it."""
    if not path.startswith(b"/v1/"):
        return Route("ops", path) if path == b"/" or path.startswith(PAGES) else None
    word, _, rest = path[4:].partition(b"/")
    if word == b"services":
        return _of_service(rest)
    if word == b"cities":
        # A city is configured in the network; its board is a view of operations.
        return Route("ops", path) if rest.endswith(b"/board") else _route("network", path)
    if word == b"orders" and rest.endswith(b"/why"):
        # An order is a view of operations; why it went where it went, only its matcher knows.
        return _route("dispatch", path)
    service = OWNERS.get(word)
    return None if service is None else _route(service, path)


def _of_service(path: bytes) -> Route | None:
    """`/v1/services/<service>/<rest>`: any route of one service, and its own description."""
    name, slash, rest = path.partition(b"/")
    service = name.decode("latin-1")
    if service not in SERVICES or not slash or not rest:
        return None
    return _route(service, b"/openapi.json" if rest == OPENAPI else b"/v1/" + rest)


def _route(service: str, target: bytes) -> Route:
    if target in LONG:
        return Route(service, target, answer_s_max=FEED_ANSWER_S_MAX, long=True)
    if target == IMPORT:
        return Route(
            service,
            target,
            body_bytes_max=IMPORT_BYTES_MAX,
            streamed=True,
            answer_s_max=FEED_ANSWER_S_MAX,
        )
    return Route(service, target)
