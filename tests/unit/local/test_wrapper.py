"""The wrapper says in one sentence what a machine lacks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.paths import CLONE

TOOLS = ("sh", "dirname", "readlink", "sed", "cmp", "df", "awk", "mkdir", "rm", "cp", "mv", "flock")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A clone with nothing installed, and a PATH without any Python."""
    clone = tmp_path / "a clone"
    clone.mkdir()
    shutil.copy(CLONE / "yaoda", clone)
    (clone / "requirements.lock").write_text("")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, f"this machine lacks {name}"
        (tools / name).symlink_to(found)
    return clone


def _program(machine: Path, name: str, body: str) -> None:
    path = machine.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _run(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Through a link and from elsewhere, as people do.
    link = machine.parent / "link"
    link.symlink_to("a clone/yaoda")
    env = {"PATH": str(machine.parent / "bin")}
    return subprocess.run(
        [link, *arguments], env=env, cwd=os.sep, capture_output=True, text=True, check=False
    )


def _check(done: subprocess.CompletedProcess[str], code: int, sentence: str) -> None:
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_no_python(machine: Path) -> None:
    _check(_run(machine), 20, "Python 3.11, 3.12 or 3.13 is needed, and none was found")


def test_an_old_python(machine: Path) -> None:
    _program(machine, "python3", "printf '3.9\\n/usr/bin/python3.9\\n'")
    _check(_run(machine), 21, "needed, but only 3.9 at /usr/bin/python3.9 was found")


def test_a_python_without_venv(machine: Path) -> None:
    body = "case $2 in *ensurepip*) exit 1 ;; esac; printf '3.12\\n%s\\n' \"$0\""
    _program(machine, "python3", body)
    _check(_run(machine), 22, "has no venv module; install it (on Debian: apt-get install")


def test_a_full_disk(machine: Path) -> None:
    _program(machine, "python3", "printf '3.12\\n%s\\n' \"$0\"")
    (machine.parent / "bin" / "df").unlink()
    _program(machine, "df", "printf 'Filesystem\\nx 100 90 42000 90%% /\\n'")
    _check(_run(machine), 24, "only 42 MB are free")


@pytest.fixture
def installed(machine: Path) -> Path:
    """A clone whose .venv is this test's interpreter, in step with the lock."""
    (machine / ".venv" / "bin").mkdir(parents=True)
    (machine / ".venv" / "bin" / "python").symlink_to(sys.executable)
    shutil.copy(machine / "requirements.lock", machine / ".venv" / "yaoda.lock")
    (machine / "services").mkdir()
    (machine / "services" / "__init__.py").touch()
    return machine


def test_arguments_reach_the_command_unchanged(installed: Path) -> None:
    wrapper = installed / ".venv" / "bin" / "python"
    wrapper.unlink()
    wrapper.write_text('#!/bin/sh\nfor word; do printf "<%s>" "$word"; done\n')
    wrapper.chmod(0o755)
    done = _run(installed, "replay", "--orders", "a b", "")
    assert done.stdout == "<-P><-m><services.cli><replay><--orders><a b><>"


def test_a_changed_lock_is_installed_again(installed: Path) -> None:
    (installed / "requirements.lock").write_text("# changed\n")
    _check(_run(installed), 20, "none was found on the PATH")
