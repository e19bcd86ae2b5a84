"""The broker's jars: resolved once into a lock file, then fetched and verified against it.

`python -m services.local.maven` resolves again and rewrites the lock; a normal start only reads it.
"""

import fcntl
import hashlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver

from services.local.errors import DownloadFailed
from services.local.paths import cache_dir

KAFKA_VERSION = "4.1.2"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
LOCK = Path(__file__).with_name("kafka.lock")
TIMEOUT_SECONDS = 60
TRIES = 3

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.group}:{self.name}:{self.version}"


def read_lock(lock: Path = LOCK) -> list[Jar]:
    """The locked jars in class path order."""
    jars = []
    for line in lock.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, checksum = line.split()
            group, name, version = coordinate.split(":")
            jars.append(Jar(group, name, version, checksum))
    return jars


def class_path(
    progress: Progress = lambda _line: None, cancelled: threading.Event | None = None
) -> str:
    """Class path of the verified jars; downloads what is missing, until `cancelled` is set.

    Raises DownloadFailed.
    """
    jars = read_lock()
    folder = cache_dir() / "maven"
    with _one_at_a_time(folder):
        context = _context(folder)
        wanted = [(jar, _artifact(context, jar)) for jar in jars]
        missing = [(jar, item) for jar, item in wanted if not _is_good(item.cached_path, jar)]
        for number, (jar, artifact) in enumerate(missing, 1):
            if cancelled is not None and cancelled.is_set():
                raise DownloadFailed("The download was cancelled.")
            progress(f"Kafka {KAFKA_VERSION}: downloading {number}/{len(missing)} {jar}")
            _fetch(jar, artifact)
    return ":".join(str(item.cached_path) for _, item in wanted)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two instances of a clone may start at once; the second waits for the first's downloads."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _context(folder: Path) -> MavenContext:
    # A mirror that this machine's jgo configuration names is asked first.
    configured = GlobalSettings.load().repositories
    return MavenContext(
        resolver=PythonResolver(),
        repo_cache=folder,
        remote_repos={**configured, "central": configured.get("central", MAVEN_CENTRAL_URL)},
        timeout=TIMEOUT_SECONDS,
    )


def _artifact(context: MavenContext, jar: Jar) -> Artifact:
    return context.project(jar.group, jar.name).at_version(jar.version).artifact()


def _fetch(jar: Jar, artifact: Artifact) -> None:
    target = artifact.cached_path
    assert target is not None
    reason = "the checksum differs from the locked one"
    for _ in range(TRIES):
        # What an interrupted download left behind would be taken for the whole file.
        target.unlink(missing_ok=True)
        try:
            artifact.resolve()
        except (requests.RequestException, RuntimeError, OSError) as error:
            reason = str(error) or type(error).__name__
            continue
        if _is_good(target, jar):
            return
    target.unlink(missing_ok=True)
    raise DownloadFailed(f"Could not download {jar}: {reason}")


def _is_good(path: Path | None, jar: Jar) -> bool:
    return path is not None and path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def resolve_lock() -> list[Jar]:
    """Resolve KAFKA with everything it needs at run time, download it and take checksums."""
    context = _context(cache_dir() / "maven")
    inputs, transitive = context.resolver.resolve([context.create_dependency(KAFKA)])
    needed = [item.artifact for item in inputs]
    needed += [item.artifact for item in transitive if item.scope in ("compile", "runtime")]
    # Kafka's POM leaves the slf4j binding to its release archive; without one no log is written.
    # It stays out of the resolution, where its parent would manage Kafka's own versions.
    log4j = next(item for item in needed if item.artifactId == "log4j-core")
    binding = context.project(log4j.groupId, "log4j-slf4j-impl").at_version(log4j.version)
    return [
        Jar(item.groupId, item.artifactId, item.version, _sha256(item.resolve()))
        for item in [*needed, binding.artifact()]
    ]


def main() -> None:
    """Rewrite the lock; starts from an empty cache, so that no local file is trusted."""
    shutil.rmtree(cache_dir() / "maven", ignore_errors=True)
    lines = [f"{jar} {jar.sha256}" for jar in resolve_lock()]
    LOCK.write_text("\n".join(["# written by python -m services.local.maven", *lines, ""]))
    print(f"{len(lines)} jars locked", file=sys.stderr)


if __name__ == "__main__":
    main()
