"""A peer that cannot run says so and counts as not run, never as a figure."""

from pathlib import Path

import pytest

from bench import peers


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose scripts stand for the peers', run by the python that is here."""
    here = tmp_path / "steps"
    here.mkdir()
    server = tmp_path / "restate-server"
    server.touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nexec /bin/sh "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(peers, "HERE", here)
    monkeypatch.setattr(peers, "SERVER", server)
    monkeypatch.setattr(peers, "PYTHON", python)
    return here


async def test_what_is_not_installed_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PYTHON", tmp_path / "nothing")
    found = await peers.measure("postgresql://nowhere", tmp_path, 1)
    assert set(found) == set(peers.PEERS)
    assert all("python -m bench.peers" in told["not_run"] for told in found.values())


async def test_a_peer_without_its_server_is_not_run(installed: Path, tmp_path: Path) -> None:
    peers.SERVER.unlink()
    (installed / "dbos_steps.py").write_text("echo '{\"per_s\": 5.0}'")
    found = await peers.measure("postgresql://nowhere", tmp_path, 1)
    assert found["dbos"] == {"per_s": 5.0}
    assert "server" in found["restate"]["not_run"]


async def test_a_peer_that_fails_is_not_run_and_says_its_last_word(
    installed: Path, tmp_path: Path
) -> None:
    (installed / "dbos_steps.py").write_text("echo first >&2; echo no such database >&2; exit 3")
    (installed / "restate_steps.py").write_text("echo noise; echo '{\"per_s\": 7.5}'")
    found = await peers.measure("postgresql://nowhere", tmp_path, 1)
    assert found["dbos"] == {"not_run": "dbos ended with 3: no such database"}
    assert found["restate"] == {"per_s": 7.5}
