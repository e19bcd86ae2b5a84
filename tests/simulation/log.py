"""The broker in memory: append-only partitions, and readers whose fetch offsets can be moved."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from aiokafka.errors import KafkaTimeoutError

from services.kit.service import Record

Place = tuple[str, int]


class Log:
    """All topics. What was appended stays; a record's offset is its number in its partition."""

    def __init__(self) -> None:
        self.parts: defaultdict[Place, list[Record]] = defaultdict(list)
        self.fresh: list[Record] = []

    def append(
        self, topic: str, part: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> Record:
        """One record at the end of its partition."""
        records = self.parts[topic, part]
        record = Record(topic, part, len(records), key, value, tuple(headers))
        records.append(record)
        self.fresh.append(record)
        return record

    def take_fresh(self) -> list[Record]:
        """What was appended since the last time, in order."""
        taken, self.fresh = self.fresh, []
        return taken

    def ends(self) -> Mapping[Place, int]:
        """The offset that the next record of each partition will have."""
        return {place: len(records) for place, records in self.parts.items()}


class Reader:
    """One service's consumer group: where it fetches next, and what it has committed."""

    def __init__(self, log: Log, topics: Sequence[str]) -> None:
        self._log = log
        self._topics = frozenset(topics)
        self.fetched: defaultdict[Place, int] = defaultdict(int)
        self.committed: defaultdict[Place, int] = defaultdict(int)

    def behind(self) -> list[Place]:
        """Partitions that hold something not yet fetched."""
        return [
            place
            for place, records in self._log.parts.items()
            if place[0] in self._topics and self.fetched[place] < len(records)
        ]

    def fetch(self, place: Place, limit: int) -> list[Record]:
        """The next records of one partition."""
        begin = self.fetched[place]
        records = self._log.parts[place][begin : begin + limit]
        self.fetched[place] = begin + len(records)
        return records

    def ack(self, batch: Sequence[Record]) -> None:
        """The commit of offsets; a zombie's never takes one back."""
        for record in batch:
            place = record.topic, record.part
            self.committed[place] = max(self.committed[place], record.offset + 1)

    def seek(self, place: Place, offset: int) -> None:
        """Fetch from here next."""
        self.fetched[place] = offset

    def rebalance(self, rng: Random) -> None:
        """Each partition is fetched again from its committed offset, or from a little before."""
        for place in list(self.fetched):
            lost = rng.choice((0, 0, 1, 3, 8))
            self.committed[place] = max(0, self.committed[place] - lost)
            self.fetched[place] = self.committed[place]


class Batch:
    """Records of one partition on their way."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes, Any]] = []

    def append(self, *, timestamp: int, key: bytes, value: bytes, headers: Any) -> object:
        """Takes as many as come."""
        self.records.append((key, value, headers))
        return timestamp


class Producer:
    """The broker's side of a relay; once a send fails, those behind it fail as well."""

    def __init__(self, log: Log, accepted: int | None = None) -> None:
        self._log = log
        self._accepted = accepted

    def create_batch(self) -> "Batch":
        """Empty."""
        return Batch()

    async def send_batch(
        self, batch: "Batch", topic: str, *, partition: int
    ) -> "asyncio.Future[None]":
        """Stands on the log at once, or the future says why some of it does not."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for record in batch.records:
            if self._accepted == 0:
                future.set_exception(KafkaTimeoutError())
                return future
            if self._accepted is not None:
                self._accepted -= 1
            self._log.append(topic, partition, *record)
        future.set_result(None)
        return future
