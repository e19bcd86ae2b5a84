"""Identifiers that sort by their birth, and the partition a key belongs to."""

import os
import struct
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import overload
from uuid import UUID

from schemas.flow import PARTITIONS

_COUNTER_BITS = 42
_TAIL_BITS = 32
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


class _Generator:
    """RFC 9562 UUIDv7, method 2: a 42-bit counter below the millisecond keeps the order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._counter = 0

    def next(self) -> UUID:
        with self._lock:
            ms, counter = self._advance(time.time_ns() // 1_000_000)
        tail = int.from_bytes(os.urandom(4))
        value = ms << 80 | _VERSION_7 | (counter >> 30) << 64
        value |= _VARIANT | (counter & 0x3FFF_FFFF) << _TAIL_BITS | tail
        return UUID(int=value)

    def _advance(self, now_ms: int) -> tuple[int, int]:
        # A clock that was set back must not bring ids that sort before older ones.
        if now_ms > self._ms:
            self._ms, self._counter = now_ms, _fresh_counter()
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._ms, self._counter = self._ms + 1, _fresh_counter()
        return self._ms, self._counter


def _fresh_counter() -> int:
    # The highest bit stays free, so that a millisecond has room for 2^41 more.
    return int.from_bytes(os.urandom(6)) >> (48 - _COUNTER_BITS + 1)


_generator = _Generator()


def new_id() -> UUID:
    """A UUIDv7, larger than every one this process made before."""
    return _generator.next()


def first_id(at: datetime) -> UUID:
    """The smallest UUID that can be born at this time: `id < first_id(at)` means made before."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


class FreshIds(Sequence[UUID]):
    """So many new ids, each made when it is first asked for: most decisions need none."""

    def __init__(self, number: int) -> None:
        self._made: list[UUID | None] = [None] * number

    @overload
    def __getitem__(self, index: int) -> UUID: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[UUID]: ...

    def __getitem__(self, index: int | slice) -> UUID | Sequence[UUID]:
        if isinstance(index, slice):
            return [self[n] for n in range(len(self._made))[index]]
        made = self._made[index]
        if made is None:
            made = self._made[index] = new_id()
        return made

    def __len__(self) -> int:
        return len(self._made)


def partition_of(key: UUID | str) -> int:
    """The partition Kafka's default partitioner gives to this key, of the fixed number a topic."""
    return _partition(str(key))


@lru_cache(maxsize=65_536)
def _partition(text: str) -> int:
    return (_murmur2(text.encode()) & 0x7FFF_FFFF) % PARTITIONS


def _murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2."""
    m, mask = 0x5BD1E995, 0xFFFF_FFFF
    whole = len(data) // 4
    h = 0x9747B28C ^ len(data)
    for word in struct.unpack_from(f"<{whole}I", data):
        k = word * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    tail = data[whole * 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
