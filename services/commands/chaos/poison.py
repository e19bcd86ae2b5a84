"""Records that nobody can read, each with the code it must be laid aside with."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from schemas import flow
from schemas.envelope import Attributes, headers_of
from services.commands.chaos.mail import Letter, letter_of
from services.commands.chaos.scene import Scene
from services.kit.ids import new_id

INNER_TOPIC, INNER_TYPE = "review.events", "review.ReviewApproved"
READERS = tuple(service for service in flow.SERVICES if INNER_TOPIC in flow.inputs(service))
OF_A_KNOWN_SENDER = ("bad_body", "unknown_type")
NOT_JSON = b'{"order_number": '
NOT_UTF8 = b"\xff\xfe\0"
# Less than the broker's limit, more than any order of ours.
LARGE, TOO_LARGE = 900_000, 5_000_000


def on_the_intake(scene: Scene) -> list[tuple[Letter, str]]:
    """Poison of every kind at the hospitals' door, and bad JSON at all the other doors."""
    script = scene.new_order()
    # It never becomes an order, so no robot may wait for it.
    scene.forget(script)
    good = letter_of(script, scene.tenants[script.hospital])
    stranger = {"ce_tenantid": str(new_id()).encode()}
    hospital = {"ce_tenantid": str(scene.tenants[script.hospital]).encode()}
    letters = [
        (_with(good, value=NOT_JSON), "bad_body"),
        (_with(good, value=None), "bad_body"),
        (_with(good, value=NOT_UTF8), "bad_body"),
        (_with(good, value=b'{"order_number": "' + b"9" * LARGE + b'"}'), "bad_body"),
        (_with(good, changed={"ce_type": b"prescription.Unheard"}), "unknown_type"),
        (_with(good, value=NOT_JSON, changed={"ce_type": b"\0"}), "unknown_type"),
        (_with(good, changed=stranger), "not_allowed"),
        (_with(good, changed={"ce_id": NOT_UTF8}), "bad_envelope"),
        (Letter(good.topic, good.key, good.value, ()), "bad_envelope"),
    ]
    for service in flow.INTAKE_SERVICES:
        changed = {"ce_type": flow.INTAKE[service][0].TYPE.encode()} | hospital
        letter = _with(good, topic=f"{service}.intake", value=NOT_JSON, changed=changed)
        letters.append((letter, "bad_body"))
    return letters


def larger_than_the_broker_takes() -> Letter:
    """What does not even reach a topic."""
    return Letter("prescription.intake", new_id(), b" " * TOO_LARGE, ())


def on_an_inner_topic(tenant: UUID, victim: UUID, fact: bytes) -> list[tuple[Letter, str]]:
    """Poison among the facts of review: one under the key of a living order, the others alone.

    `tenant` is whose that order is, `fact` the body of a true one.
    """

    def inner(value: bytes | None, key: UUID | None = None, *, version: int = 1) -> Letter:
        return _inner(tenant, key or new_id(), value, version, {})

    return [
        (inner(NOT_JSON, victim), "bad_body"),
        (inner(None), "bad_body"),
        (inner(fact), "wrong_place"),
        (_inner(tenant, new_id(), fact, 1, {"ce_source": NOT_UTF8}), "bad_envelope"),
        (_inner(tenant, new_id(), fact, 1, {"ce_id": NOT_UTF8}), "bad_envelope"),
        (inner(fact, version=99), "unknown_type"),
        (inner(NOT_JSON, version=99), "unknown_type"),
    ]


def _inner(
    tenant_id: UUID, key: UUID, value: bytes | None, version: int, changed: Mapping[str, bytes]
) -> Letter:
    attributes = Attributes(
        id=new_id(),
        type=INNER_TYPE,
        version=version,
        source="/nobody",
        time=datetime.now(UTC),
        subject=str(key),
        tenant_id=tenant_id,
        aggregate_version=1,
    )
    headers = {**dict(headers_of(attributes)), **changed}
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
