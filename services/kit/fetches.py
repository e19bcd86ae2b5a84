"""Writes and reads the partitions of a fetch in one step each instead of field by field.

aiokafka has no fetch sessions: every request and every answer names all partitions of a service,
up to 84, and its codec takes a call of its own for each of their fields.
"""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.types import Array, Schema

Asked = tuple[int, int, int, int, int]
Aborted = list[tuple[int, int]] | None
Answered = tuple[int, int, int, int, int, Aborted, int, bytes | None]

_LENGTH = struct.Struct(">i")
_ASKED = struct.Struct(">iiqqi")
_HEAD, _TAIL = struct.Struct(">ihqqqi"), struct.Struct(">ii")
_ABORTED = struct.Struct(">qq")


class AskedPartitions:
    """Partition, leader's epoch, offset, start of the log, most bytes."""

    def encode(self, items: Sequence[Asked]) -> bytes:
        """As the driver's own codec does it."""
        return b"".join([_LENGTH.pack(len(items)), *(_ASKED.pack(*item) for item in items)])


class AnsweredPartitions:
    """Partition, error, three offsets, aborted transactions, preferred replica, records."""

    def decode(self, data: BytesIO) -> list[Answered]:
        """As the driver's own codec does it."""
        read = data.read
        (count,) = _LENGTH.unpack(read(4))
        return [self._one(read) for _ in range(count)]

    def _one(self, read: Any) -> Answered:
        *head, aborted = _HEAD.unpack(read(_HEAD.size))
        transactions: Aborted = None
        if aborted >= 0:
            transactions = [_ABORTED.unpack(read(_ABORTED.size)) for _ in range(aborted)]
        replica, size = _TAIL.unpack(read(_TAIL.size))
        records: bytes | None = read(size) if size >= 0 else None
        if records is not None and len(records) != size:
            raise ValueError("a fetch ends within its records")
        return (*head, transactions, replica, records)


def lighten() -> None:
    """Once a process: the driver's schema of a fetch gets these in place of its own arrays."""
    _replace(FetchRequest_v11.SCHEMA, AskedPartitions())
    _replace(FetchResponse_v11.SCHEMA, AnsweredPartitions())


def _replace(schema: Schema, partitions: Any) -> None:
    topics = schema.fields[schema.names.index("topics")]
    if not isinstance(topics, Array) or not isinstance(topics.array_of, Schema):
        raise TypeError("the driver's schema of a fetch is another one")
    name, _ = topics.array_of.fields
    topics.array_of.fields = (name, partitions)
