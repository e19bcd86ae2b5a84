"""What an instance folder holds, and what is refused before anything is started."""

import hashlib
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from services.kit.config import Settings
from services.local import ports
from services.local.errors import DiskFull, HomeLocked, NotRunning, PortBusy
from services.local.instance import Instance, holder, read_state
from services.local.processes import PROCESSES
from services.local.secrets import TENANTS


@pytest.fixture
def opened(tmp_path: Path) -> Instance:
    """An instance whose folder is taken and whose servers are not started."""
    instance = Instance(tmp_path / "a home")
    instance.open()
    return instance


def _reopened(instance: Instance) -> Instance:
    instance.close()
    again = Instance(instance.home)
    again.open()
    return again


def test_ports_are_remembered_and_all_different(opened: Instance) -> None:
    again = _reopened(opened)
    assert again.ports == opened.ports == read_state(opened.home)["ports"]
    assert len(set(again.ports.values())) == len(again.ports) >= len(PROCESSES) + 3


def test_only_a_port_that_was_taken_meanwhile_changes(opened: Instance) -> None:
    busy = opened.ports["review"]
    with socket.create_server((ports.HOST, busy)):
        again = _reopened(opened)
    changed = {name for name, port in again.ports.items() if port != opened.ports[name]}
    assert changed == {"review"}


def test_a_named_edge_port_is_used_or_refused(tmp_path: Path) -> None:
    port = ports.pick(set())
    instance = Instance(tmp_path / "one", edge_port=port)
    instance.open()
    assert instance.address("edge") == f"http://127.0.0.1:{port}"
    with socket.create_server((ports.HOST, port)), pytest.raises(PortBusy):
        Instance(tmp_path / "two", edge_port=port).open()


def test_secrets_are_private_and_kept(opened: Instance) -> None:
    files = {name: opened.secrets / name for name in ("master.key", "tenants.json", "tokens.json")}
    before = {name: path.read_text() for name, path in files.items()}
    again = _reopened(opened)
    assert {name: (again.secrets / name).read_text() for name in files} == before
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert len(bytes.fromhex(before["master.key"])) == 32


def test_tenants_carry_the_digest_of_their_token(opened: Instance) -> None:
    rows = json.loads((opened.secrets / "tenants.json").read_text())["tenants"]
    assert {row["name"]: row["kind"] for row in rows} == TENANTS
    for row in rows:
        token = opened.token(row["name"])
        assert row["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()
        assert UUID(row["tenant_id"]).version == 7


def test_the_services_understand_the_environment(
    opened: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in opened.env_for("dispatch.1").items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.home == opened.home
    assert settings.pg_user == "dispatch"
    assert settings.slot == 1
    assert settings.kafka == opened.kafka
    assert settings.addresses["review"] == opened.address("review")
    assert settings.pg_port == opened.ports["postgres"]


def test_a_home_belongs_to_one_supervisor(opened: Instance) -> None:
    with pytest.raises(HomeLocked, match=r"already run by process \d+; stop it first") as caught:
        Instance(opened.home).open()
    assert caught.value.exit_code == 12
    assert holder(opened.home) is not None
    opened.close()
    assert holder(opened.home) is None


def test_looking_at_an_instance_needs_one_that_runs(opened: Instance) -> None:
    assert Instance.attached(opened.home).kafka == opened.kafka
    opened.close()
    with pytest.raises(NotRunning, match="Nothing runs in"):
        Instance.attached(opened.home)


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=500_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(
        DiskFull, match=r"Only 500 MB are free below .*1000 MB are needed"
    ) as caught:
        Instance(tmp_path / "home").open()
    assert caught.value.exit_code == 11
    assert not (tmp_path / "home" / "secrets").exists()
    # The folder is free again for whoever comes when there is room.
    assert holder(tmp_path / "home") is None


def test_a_damaged_state_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "instance.json").write_text('{"ports": ')
    assert read_state(tmp_path) == {}
