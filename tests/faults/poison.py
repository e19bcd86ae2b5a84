"""Records that nobody can read, each with the code it must be laid aside with."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from schemas import flow
from schemas.envelope import Attributes, headers_of
from services.kit.ids import new_id
from tests.faults.stage import Fire, Letter

INNER_TOPIC, INNER_TYPE = "review.events", "review.ReviewApproved"
READERS = tuple(service for service in flow.SERVICES if INNER_TOPIC in flow.inputs(service))
OF_A_KNOWN_SENDER = ("bad_body", "unknown_type")
NOT_JSON = b'{"order_number": '
# Less than the broker's limit, more than any order of ours.
LARGE, TOO_LARGE = 900_000, 5_000_000


def on_the_intake(fire: Fire) -> list[tuple[Letter, str]]:
    """Poison of every kind at the hospitals' door, and bad JSON at all the other doors."""
    # It never becomes an order, so no robot may wait for it.
    script = fire.new_order()
    del fire.scripts[script.number]
    good = fire.letter_of(script)
    stranger = {"ce_tenantid": str(new_id()).encode()}
    hospital = {"ce_tenantid": str(fire.tenants[script.hospital]).encode()}
    letters = [
        (_with(good, value=NOT_JSON), "bad_body"),
        (_with(good, value=None), "bad_body"),
        (_with(good, value=b'{"order_number": "' + b"9" * LARGE + b'"}'), "bad_body"),
        (_with(good, changed={"ce_type": b"prescription.Unheard"}), "unknown_type"),
        (_with(good, value=NOT_JSON, changed={"ce_type": b"\0"}), "unknown_type"),
        (_with(good, changed=stranger), "not_allowed"),
        (_with(good, changed={"ce_id": b"\xff\xfe\0"}), "bad_envelope"),
        (Letter(good.topic, good.key, good.value, ()), "bad_envelope"),
    ]
    for service in flow.INTAKE_SERVICES:
        changed = {"ce_type": flow.INTAKE[service][0].TYPE.encode()} | hospital
        letter = _with(good, topic=f"{service}.intake", value=NOT_JSON, changed=changed)
        letters.append((letter, "bad_body"))
    return letters


def larger_than_the_broker_takes(fire: Fire) -> Letter:
    """What does not even reach a topic."""
    return Letter("prescription.intake", new_id(), b" " * TOO_LARGE, ())


async def on_an_inner_topic(fire: Fire, victim: UUID) -> list[tuple[Letter, str]]:
    """Poison among the facts of review: one under the key of a living order, the others alone."""
    body = await _some_approval(fire)
    bad = b"\xff\xfe\0"
    return [
        (_inner(fire, victim, NOT_JSON), "bad_body"),
        (_inner(fire, new_id(), None), "bad_body"),
        (_inner(fire, new_id(), body), "wrong_place"),
        (_inner(fire, new_id(), body, changed={"ce_source": bad}), "bad_envelope"),
        (_inner(fire, new_id(), body, changed={"ce_id": bad}), "bad_envelope"),
        (_inner(fire, new_id(), body, version=99), "unknown_type"),
        (_inner(fire, new_id(), NOT_JSON, version=99), "unknown_type"),
    ]


async def _some_approval(fire: Fire) -> bytes:
    sql = "SELECT body FROM {schema}.outbox WHERE type = '" + INNER_TYPE + "' LIMIT 1"
    (_, row), *_ = await fire.fetch_everywhere(sql)
    return bytes(row["body"])


def _inner(
    fire: Fire,
    key: UUID,
    value: bytes | None,
    *,
    version: int = 1,
    changed: Mapping[str, bytes] | None = None,
) -> Letter:
    attributes = Attributes(
        id=new_id(),
        type=INNER_TYPE,
        version=version,
        source="/nobody",
        time=datetime.now(UTC),
        subject=str(key),
        tenant_id=fire.tenants["hospital-a"],
        aggregate_version=1,
    )
    headers = {**dict(headers_of(attributes)), **(changed or {})}
    return Letter(INNER_TOPIC, key, value, tuple(headers.items()))


_SAME = b"the value of the letter itself"


def _with(
    letter: Letter,
    *,
    topic: str | None = None,
    value: bytes | None = _SAME,
    changed: Mapping[str, bytes] | None = None,
) -> Letter:
    """The same letter under an id of its own, changed in some places."""
    own_id = {"ce_id": str(new_id()).encode()}
    headers = {**dict(letter.headers), **own_id, **(changed or {})}
    return Letter(
        topic or letter.topic,
        letter.key,
        letter.value if value is _SAME else value,
        tuple(headers.items()),
    )
