"""Identifiers and partitions."""

import threading
import time
from uuid import UUID, uuid4

import pytest
from aiokafka.partitioner import DefaultPartitioner

from schemas.flow import PARTITIONS
from services.kit import ids


def test_ids_rise_and_are_version_7() -> None:
    made = [ids.new_id() for _ in range(50_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {item.version for item in made} == {7}
    assert {item.variant for item in made} == {uuid4().variant}


def test_an_id_begins_with_the_unix_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    stamp = ids.new_id().int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000 + 1


def test_a_clock_set_back_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = ids._Generator()
    first = generator.next()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert generator.next() > first


def test_a_full_millisecond_borrows_from_the_next() -> None:
    generator = ids._Generator()
    generator._ms, generator._counter = 1 << 46, (1 << 42) - 1
    full = generator._ms
    assert generator.next().int >> 80 == full + 1


def test_threads_never_share_an_id() -> None:
    made: list[list[UUID]] = [[] for _ in range(4)]

    def run(into: list[UUID]) -> None:
        into.extend(ids.new_id() for _ in range(5_000))

    threads = [threading.Thread(target=run, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item for into in made for item in into}) == 20_000
    assert all(into == sorted(into) for into in made)


def test_partitions_are_those_of_the_kafka_client() -> None:
    partitioner = DefaultPartitioner()
    everyone = list(range(PARTITIONS))
    keys = [str(ids.new_id()) for _ in range(500)] + ["", "a", "ab", "abc", "药达", "x" * 99]
    for key in keys:
        assert ids.partition_of(key) == partitioner(key.encode(), everyone, everyone)


def test_a_uuid_and_its_text_have_one_partition() -> None:
    key = ids.new_id()
    assert ids.partition_of(key) == ids.partition_of(str(key))
    assert {ids.partition_of(ids.new_id()) for _ in range(500)} == set(range(PARTITIONS))


def test_fresh_ids_are_made_when_asked_for_and_stay() -> None:
    fresh = ids.FreshIds(8)
    second, first = fresh[1], fresh[0]
    assert second < first, "made in the order of asking"
    assert (fresh[1], fresh[0]) == (second, first)
    assert list(fresh[:2]) == [first, second]
    assert len(set(fresh)) == len(fresh) == 8
    assert {made.version for made in fresh} == {7}
