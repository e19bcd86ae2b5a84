"""A fetch on the wire is byte for byte what the driver's own codec makes of it."""

from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit import fetches

I16, I32, I64 = (st.integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (16, 32, 64))
ASKED = st.lists(st.tuples(I32, I32, I64, I64, I32), max_size=5)
ABORTED = st.none() | st.lists(st.tuples(I64, I64), max_size=2)
ANSWERED = st.lists(
    st.tuples(I32, I16, I64, I64, I64, ABORTED, I32, st.none() | st.binary(max_size=40)),
    max_size=5,
)


def partitions_of(schema: Any) -> Any:
    return schema.fields[schema.names.index("topics")].array_of.fields[1]


DRIVERS_REQUEST = partitions_of(FetchRequest_v11.SCHEMA)
DRIVERS_RESPONSE = partitions_of(FetchResponse_v11.SCHEMA)


@settings(deadline=None)
@given(ASKED)
def test_what_is_asked(items: list[Any]) -> None:
    assert fetches.AskedPartitions().encode(items) == DRIVERS_REQUEST.encode(items)


@settings(deadline=None)
@given(ANSWERED, st.binary(max_size=3))
def test_what_is_answered(items: list[Any], rest: bytes) -> None:
    wire = DRIVERS_RESPONSE.encode(items)
    ours, theirs = BytesIO(wire + rest), BytesIO(wire + rest)
    assert fetches.AnsweredPartitions().decode(ours) == DRIVERS_RESPONSE.decode(theirs)
    assert ours.read() == rest


def test_an_answer_that_is_cut_off_is_an_error() -> None:
    wire = DRIVERS_RESPONSE.encode([(0, 0, 9, 9, 0, [], -1, b"records")])
    with pytest.raises(ValueError, match="ends within its records"):
        fetches.AnsweredPartitions().decode(BytesIO(wire[:-1]))


def test_the_driver_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for schema in (FetchRequest_v11.SCHEMA, FetchResponse_v11.SCHEMA):
        topic = schema.fields[schema.names.index("topics")].array_of
        monkeypatch.setattr(topic, "fields", topic.fields)
    request = FetchRequest_v11(-1, 500, 1, 1000, 0, 0, -1, [("t", [(3, -1, 7, -1, 99)])], [], "")
    answer = FetchResponse_v11(0, 0, 0, [("t", [(3, 0, 9, 9, 0, None, -1, b"abc")])])
    before = request.encode(), FetchResponse_v11.decode(answer.encode())
    wire = answer.encode()
    fetches.lighten()
    assert request.encode() == before[0]
    assert FetchResponse_v11.decode(wire) == before[1]
    assert isinstance(partitions_of(FetchRequest_v11.SCHEMA), fetches.AskedPartitions)
