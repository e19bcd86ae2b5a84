"""Jars come from the lock, and only those that are what was locked."""

import hashlib
from pathlib import Path

import pytest
from jgo.maven import Artifact

from services.local import maven
from services.local.errors import DownloadFailed
from services.local.paths import cache_dir

CONTENT = b"the jar"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one jar, and an empty cache."""
    lock = tmp_path / "lock"
    lock.write_text(f"# comment\norg.example:thing:1.0 {SHA256}\n")
    monkeypatch.setattr(maven, "read_lock", lambda: _read_lock(lock))
    monkeypatch.setenv("YAODA_CACHE", str(tmp_path / "cache"))
    return lock


_read_lock = maven.read_lock


def _serve(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> list[str]:
    """Let downloads end like this, one after the other; what was asked for."""
    queue, asked = list(answers), []

    def resolve(artifact: Artifact) -> Path:
        asked.append(artifact.filename)
        answer = queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        path = artifact.cached_path
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer)
        return path

    monkeypatch.setattr(Artifact, "resolve", resolve)
    return asked


@pytest.mark.usefixtures("lock")
def test_a_jar_is_fetched_once_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _serve(monkeypatch, CONTENT)
    said: list[str] = []
    first, second = maven.class_path(said.append), maven.class_path(said.append)
    assert Path(first).read_bytes() == CONTENT
    assert first == second
    assert asked == ["thing-1.0.jar"]
    assert [line.endswith("downloading 1/1 org.example:thing:1.0") for line in said] == [True]


@pytest.mark.usefixtures("lock")
def test_a_broken_download_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _serve(monkeypatch, CONTENT[:3], RuntimeError("cut off"), CONTENT)
    assert Path(maven.class_path()).read_bytes() == CONTENT
    assert len(asked) == 3


@pytest.mark.usefixtures("lock")
def test_another_jar_than_the_locked_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(monkeypatch, *[b"something else"] * maven.TRIES)
    with pytest.raises(DownloadFailed, match=r"org\.example:thing:1\.0: the checksum differs"):
        maven.class_path()
    assert not list(cache_dir().rglob("*.jar"))


@pytest.mark.usefixtures("lock")
def test_a_jar_that_was_damaged_in_the_cache_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _serve(monkeypatch, CONTENT, CONTENT)
    path = Path(maven.class_path())
    path.write_bytes(b"damaged")
    assert Path(maven.class_path()).read_bytes() == CONTENT


def test_the_committed_lock_is_of_one_kafka() -> None:
    jars = _read_lock()
    versions = {jar.version for jar in jars if jar.group == "org.apache.kafka"}
    assert versions == {maven.KAFKA_VERSION}
    assert "log4j-slf4j-impl" in {jar.name for jar in jars}
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)
