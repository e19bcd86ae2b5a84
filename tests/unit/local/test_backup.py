"""Which base a time is restored from, and what a backup remembers of itself."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from services.commands.backup import _claim
from services.commands.restore import _base, _moment, _refuse_impossible
from services.local import backup
from services.local.backup import BackupFailed, bases, choose
from services.local.child import Child
from services.local.postgres import Postgres


def at(hour: int) -> datetime:
    return datetime(2026, 3, 2, hour, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (at(11).strftime(backup.TIME_FORMAT), at(9).strftime(backup.TIME_FORMAT)):
        (tmp_path / "base" / name).mkdir(parents=True)
    (tmp_path / "base" / "unfinished").mkdir()
    return tmp_path


def test_the_newest_base_before_the_target_is_chosen(folder: Path) -> None:
    found = bases(folder)
    assert [base.ended for base in found] == [at(9), at(11)]
    for target, ended in ((None, at(11)), (at(12), at(11)), (at(11), at(11)), (at(10), at(9))):
        chosen = choose(found, target)
        assert chosen is not None
        assert chosen.ended == ended
    assert choose(found, at(8)) is None


def test_a_time_before_the_first_base_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="begins at 2026-03-02T09:00:00"):
        _base(folder, at(8))
    with pytest.raises(BackupFailed, match="no complete backup"):
        _base(tmp_path / "other", None)


def test_a_time_needs_its_zone() -> None:
    assert _moment("2026-03-02T09:00:00Z") == at(9)
    assert _moment("2026-03-02T17:00:00+08:00") == at(9)
    for text in ("2026-03-02T09:00:00", "yesterday"):
        with pytest.raises(BackupFailed, match="time"):
            _moment(text)


def test_an_old_broker_fits_only_the_latest(tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="would not fit"):
        _refuse_impossible(tmp_path / "new", at(9), tmp_path)
    with pytest.raises(BackupFailed, match="no data of a broker"):
        _refuse_impossible(tmp_path / "new", None, tmp_path)
    (tmp_path / "pg").mkdir()
    with pytest.raises(BackupFailed, match="There is an instance"):
        _refuse_impossible(tmp_path, None, None)


def test_one_folder_holds_one_database(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    _claim(mine, "1")
    _claim(mine, "1")
    with pytest.raises(BackupFailed, match="another instance's backup"):
        _claim(mine, "2")
    with pytest.raises(BackupFailed, match="not empty"):
        _claim(tmp_path, "1")


def test_an_instance_remembers_where_its_log_goes(tmp_path: Path) -> None:
    assert backup.configured(tmp_path) is None
    backup.configure(tmp_path, tmp_path / "there")
    first = backup.configured(tmp_path)
    assert first is not None
    assert first.parent == tmp_path / "there" / "wal"
    backup.configure(tmp_path, tmp_path / "there")
    assert backup.configured(tmp_path) == first
    backup.configure(tmp_path, None)
    assert backup.configured(tmp_path) is None
    # Behind the pause another part begins.
    backup.configure(tmp_path, tmp_path / "there")
    assert backup.configured(tmp_path) != first


def test_the_parts_of_the_log_are_read_in_their_order(tmp_path: Path) -> None:
    for part, name in (("2", "00A"), ("1", "00B"), ("1", "00A.partial")):
        (tmp_path / "wal" / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / "wal" / part / name).touch()
    names = [str(file.relative_to(tmp_path / "wal")) for file in backup.received(tmp_path)]
    assert names == ["1/00A.partial", "1/00B", "2/00A"]


def label(base: Path, file: str) -> None:
    (base / "backup_label").write_text(f"START WAL LOCATION: 0/2000028 (file {file})\nMORE: x\n")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Bases of nine, ten and eleven, and the log around them with a pause at ten."""
    for hour, begins in ((9, "02"), (10, "05"), (11, "07")):
        base = tmp_path / "base" / at(hour).strftime(backup.TIME_FORMAT)
        base.mkdir(parents=True)
        label(base, f"{1:08X}{begins:0>16}")
    for part, numbers in (("1", ("01", "02", "03")), ("2", ("04", "05", "06", "07"))):
        (tmp_path / "wal" / part).mkdir(parents=True)
        for number in numbers:
            (tmp_path / "wal" / part / f"{1:08X}{number:0>16}").write_bytes(b"log")
    (tmp_path / "wal" / "2" / f"{1:08X}{'08':0>16}.partial").touch()
    (tmp_path / "wal" / "2" / "00000002.history").touch()
    return tmp_path


def log_of(folder: Path) -> list[str]:
    return [f"{file.parent.name}/{file.name[22:]}" for file in backup.received(folder)]


def test_old_bases_go_and_with_them_the_log_that_only_they_needed(kept: Path) -> None:
    gone = backup.let_go(kept, 2)
    assert [base.ended for base in bases(kept)] == [at(10), at(11)]
    assert gone.bases == 1
    assert gone.bytes > 4 * len(b"log")
    # The part before the pause is empty and gone; what is no segment stays.
    assert log_of(kept) == ["2/05", "2/06", "2/07", "2/08.partial", "2/"]
    assert not (kept / "wal" / "1").exists()
    assert sorted(entry.name for entry in (kept / "base").iterdir()) == [
        at(hour).strftime(backup.TIME_FORMAT) for hour in (10, 11)
    ]


def test_the_log_that_any_kept_base_needs_stays(kept: Path) -> None:
    """A base taken after a restore to an earlier time begins earlier in the log than its elder."""
    newest = bases(kept)[-1].folder
    label(newest, f"{2:08X}{'03':0>16}")
    backup.let_go(kept, 2)
    assert log_of(kept)[0] == "1/03"


def test_nothing_goes_when_fewer_bases_are_there_or_one_is_not_whole(kept: Path) -> None:
    assert backup.let_go(kept, 3).bases == 0
    assert len(bases(kept)) == 3
    (bases(kept)[-1].folder / "backup_label").unlink()
    with pytest.raises(BackupFailed, match="is not whole"):
        backup.let_go(kept, 1)
    assert len(bases(kept)) == 3


def test_what_a_crash_left_half_deleted_is_no_base_and_goes_with_the_next(kept: Path) -> None:
    half = kept / "base" / (at(8).strftime(backup.TIME_FORMAT) + ".going")
    half.mkdir()
    assert len(bases(kept)) == 3
    backup.let_go(kept, 3)
    assert not half.exists()


def test_a_restore_reads_the_log_from_its_base_on(kept: Path) -> None:
    base = choose(bases(kept), at(10))
    assert base is not None
    read = backup.since(kept, backup.begins(base))
    assert [file.name[22:] for file in read] == ["05", "06", "07", "08.partial", ""]


def test_a_copy_that_is_not_what_was_sent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"page")
    digest = hashlib.sha256(b"page").hexdigest()
    manifest = {"Files": [{"Path": "1", "Checksum": digest}]}
    (tmp_path / "backup_manifest").write_text(json.dumps(manifest))
    backup.verify(tmp_path)
    (tmp_path / "1").write_bytes(b"pagf")
    with pytest.raises(BackupFailed, match="copy of 1 is not"):
        backup.verify(tmp_path)
    (tmp_path / "1").unlink()
    with pytest.raises(BackupFailed, match="misses 1"):
        backup.verify(tmp_path)


class Gone:
    """A connection whose server ends as it is asked."""

    async def fetchval(self, *_: object) -> bool:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")

    async def close(self) -> None:
        raise asyncpg.InterfaceError("connection is closed")


async def test_a_server_that_ends_while_it_is_probed_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: object, **__: object) -> Gone:
        return Gone()

    monkeypatch.setattr(asyncpg, "connect", connect)
    server = Postgres(tmp_path, port=1, log=tmp_path / "pg.log")
    assert not await server.is_ready()
    receiver = backup.Receiver(server, tmp_path, tmp_path / "wal.log")
    receiver.child = Child(["sleep", "60"], log=tmp_path / "wal.log")
    try:
        assert not await receiver.is_ready()
    finally:
        receiver.child.kill()
        assert await receiver.child.wait(5)
