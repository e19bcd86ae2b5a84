"""House rules that no linter knows; each lists its exceptions by name."""

import ast
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from schemas import flow
from schemas.publish import documents
from services import cli
from services.commands import testing
from services.local.processes import PROCESSES
from tests.contract.reading import CLONE, parsed, product_files

LINES_MAX = 70
SKIPPED_FOLDERS = frozenset({".git", ".venv", ".yaoda", "__pycache__", "node_modules", "dist"})
TEXT = frozenset(
    {"", ".py", ".md", ".toml", ".sql", ".yaml", ".yml", ".json", ".js", ".css", ".html", ".sh"}
)
HERE = Path(__file__)

# Words of the trade. The kit knows orders, tenants and events, nothing of what they are about.
NOUNS = re.compile(
    r"(?<![a-z])(prescri|pharmac|patient(?!ly)|courier|parcel|drug|medic|hospital|voucher|insur"
    r"|payer|doctor|stock|settlement|dispens|dispatch|deliver(?!ed|ing|s))",
    re.IGNORECASE,
)
# File of the kit → what it may name and why.
NOUNS_ALLOWED: dict[str, str] = {
    "config.py": "the addresses of outside systems are settings like any other",
    "decision.py": "questions are asked by a fact of the contract, PatientAsked",
    "handler.py": "the one place that writes the lock order down",
    "migrate.py": "the simulators' own schemas",
    "migrations/shared/0001_kit.sql": "who may open what is a grant of the database",
    "run.py": "the example of a worker of a service's own",
    "service.py": "the aggregates of the contract are orders and pharmacies",
    "telemetry.py": "log fields and metrics stand in one list",
    "tenants.py": "the kinds of tenants",
}

PURE_BANNED_CALLS = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid4", "uuid.uuid1"}
)
PURE_BANNED_MODULES = frozenset(
    {"time", "random", "secrets", "os", "asyncio", "socket", "logging", "httpx", "asyncpg", "faust"}
)

MACHINE_PATH = re.compile(r"(?<![\w.~*-])/(?:work|root|home|Users|tmp|mnt|opt)/\w")
# The container has one fixed place for its program and its secrets.
PATHS_ALLOWED = frozenset({"deploy/Dockerfile", "docker-compose.yml"})
REGISTRY = re.compile(
    r"\b(?:files\.pythonhosted\.org|pypi\.\w+|registry\.npmjs|[\w.-]*maven[\w.-]*\.(?:org|com|net)"
    r"|docker\.io|ghcr\.io|quay\.io|proxy\.golang|artifactory|nexus\.)",
    re.IGNORECASE,
)
NOT_THE_PRODUCT = re.compile(
    r"\b(?:issues? #?\d+|ticket #?\d+|sub-?agents?|coding agents?|ai agents?|chatgpt|claude"
    r"|anthropic|openai|llms?|(?:this|the|an?) (?:coding |work )?session(?:'s)? (?:of|at|that) work"
    r"|the brief|briefing)\b",
    re.IGNORECASE,
)
OWNERLESS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
MEANINGLESS_FILES = frozenset({"utils.py", "helpers.py", "common.py", "misc.py", "manager.py"})


MAIN = 'if __name__ == "__main__":'
IDLE_ALLOWED: dict[str, str] = {
    "services.kit.spec": "given, when, then for the tests of domains",
    "services.dispatch.whatif.oracle": "the bound that the benchmark compares with",
    "services.dispatch.whatif.reachable": "the bound of who knows no answer, for the benchmark",
    "services.dispatch.whatif.referee": "re-checks what the benchmark's policies commit",
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def too_long(tree: ast.Module) -> list[str]:
    found = functions(tree)
    sizes = {item.name: (item.end_lineno or 0) - item.lineno + 1 for item in found}
    return [f"{name} has {size} lines" for name, size in sizes.items() if size > LINES_MAX]


def impure(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in PURE_BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [node.module or ""] if node.module in PURE_BANNED_MODULES else []
            found += [name for name in names if name in PURE_BANNED_CALLS]
        elif isinstance(node, ast.Attribute):
            name = ".".join(ast.unparse(node).split(".")[-2:])
            found += [name] if name in PURE_BANNED_CALLS else []
    return found


def floating_money(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            loose = re.search(r"\b(float|Decimal)\b", ast.unparse(node.annotation))
            found += [name] if name.endswith("fen") and loose else []
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            found += [ast.unparse(node)] if _is_fen(node.left) or _is_fen(node.right) else []
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "float"
        ):
            found += [ast.unparse(node)] if any(_is_fen(item) for item in node.args) else []
    return found


def _is_fen(node: ast.expr) -> bool:
    return any(
        isinstance(part, ast.Name | ast.Attribute) and ast.unparse(part).endswith("_fen")
        for part in ast.walk(node)
    )


def committed() -> Iterator[Path]:
    """Our text files, as they would be committed."""
    tops = [path for path in CLONE.iterdir() if path.name not in SKIPPED_FOLDERS]
    for top in sorted(tops):
        if top.is_dir() and top.name.startswith(".") and top.name not in (".ci", ".github"):
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            skipped = path == HERE or SKIPPED_FOLDERS & set(path.parts)
            if path.is_file() and path.suffix in TEXT and not skipped:
                yield path


def hits(pattern: re.Pattern[str], allowed: frozenset[str] = frozenset()) -> list[str]:
    found = []
    for path in committed():
        name = path.relative_to(CLONE).as_posix()
        if name in allowed or name.endswith(".lock"):
            continue
        text = path.read_text(encoding="utf-8")
        if not pattern.search(text):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {line.strip()[:80]}"] if pattern.search(line) else []
    return found


def pure_files() -> list[Path]:
    places = [f"services/{name}/domain" for name in flow.SERVICES]
    folders = [place for place in places if (CLONE / place).is_dir()]
    single = [f"{place}.py" for place in places if (CLONE / f"{place}.py").is_file()]
    return product_files(*folders, *single, "services/review/rules", "services/kit/decision.py")


def test_no_function_is_longer_than_a_screen() -> None:
    files = product_files("services", "schemas", "bench", "tests")
    long = {path.name: too_long(parsed(path)) for path in files}
    assert {name: found for name, found in long.items() if found} == {}


def test_a_long_function_would_be_seen() -> None:
    body = "\n".join(["def f() -> None:", *["    pass"] * LINES_MAX])
    assert too_long(ast.parse(body)) == [f"f has {LINES_MAX + 1} lines"]
    assert too_long(ast.parse(body.removesuffix("\n    pass"))) == []


def test_decisions_take_no_time_and_no_chance() -> None:
    files = pure_files()
    assert len(files) > 20
    found = {str(path.relative_to(CLONE)): impure(parsed(path)) for path in files}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "import time",
        "from random import choice",
        "from uuid import uuid4",
        "import uuid\nuuid.uuid4()",
    ],
)
def test_time_and_chance_would_be_seen(source: str) -> None:
    assert impure(ast.parse(source))


def test_the_kit_speaks_of_no_trade() -> None:
    kit = CLONE / "services" / "kit"
    naming = {
        path.relative_to(kit).as_posix()
        for path in kit.rglob("*")
        if path.suffix in (".py", ".sql") and NOUNS.search(path.read_text())
    }
    assert naming - NOUNS_ALLOWED.keys() == set()
    assert NOUNS_ALLOWED.keys() - naming == set(), "an exception that is no longer needed"


@pytest.mark.parametrize("word", ["load_prescription", "Pharmacy", "the patient", "payer_area"])
def test_a_word_of_the_trade_would_be_seen(word: str) -> None:
    assert NOUNS.search(word)


@pytest.mark.parametrize("service", flow.SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    folder = CLONE / "services" / service
    present = {path.name for path in folder.iterdir()}
    same = {"__init__.py", "__main__.py", "agents.py", "api.py", "app.py", "store.py"}
    assert same | {"queries.sql", "migrations"} <= present
    assert len(present & {"domain", "domain.py"}) == 1


def test_no_file_has_a_name_without_meaning() -> None:
    names = {path.name for path in product_files("services", "schemas", "bench", "tests")}
    assert names & MEANINGLESS_FILES == set()


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in product_files("services", "schemas", "bench", "tests")}
    assert {str(folder) for folder in folders if not (folder / "__init__.py").exists()} == set()


def test_no_path_of_a_machine_is_committed() -> None:
    assert hits(MACHINE_PATH, PATHS_ALLOWED) == []


def test_no_registry_is_named() -> None:
    assert hits(REGISTRY) == []
    locks = [path for path in CLONE.glob("**/*.lock") if not SKIPPED_FOLDERS & set(path.parts)]
    assert len(locks) >= 2
    for path in locks:
        assert not re.search(r"https?://", path.read_text()), path.name


def test_the_files_speak_of_the_product_alone() -> None:
    assert hits(NOT_THE_PRODUCT) == []


def test_nothing_is_left_to_nobody() -> None:
    assert hits(OWNERLESS) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATH, 'open("/home/me/x")'),
        (MACHINE_PATH, "see /tmp/notes"),
        (REGISTRY, "--index-url https://pypi.example.org/simple"),
        (REGISTRY, "image: ghcr.io/a/b"),
        (NOT_THE_PRODUCT, "fixes issue 3"),
        (NOT_THE_PRODUCT, "as the brief says"),
        (OWNERLESS, "# TODO: later"),
    ],
)
def test_what_must_not_be_committed_would_be_seen(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


def test_product_code_silences_no_type_error() -> None:
    silent = [
        path.name for path in product_files() if re.search(r"#\s*type:\s*ignore", path.read_text())
    ]
    assert silent == []


def test_only_the_kit_writes() -> None:
    """A service that commits by itself would commit without its events; a pruning decides none."""
    for path in product_files("services"):
        inside = path.relative_to(CLONE / "services")
        allowed = inside.parts[0] in ("kit", "sandbox") or inside == Path("commands/pruning.py")
        for call in re.findall(r"\.transaction\(([^)]*)\)", path.read_text()):
            assert allowed or "readonly=True" in call, path.name


def test_money_is_whole_fen() -> None:
    found = {str(path): floating_money(parsed(path)) for path in product_files()}
    assert {name: items for name, items in found.items() if items} == {}
    amounts = [
        (name, part)
        for name, schema in documents.all_schemas().items()
        for field, part in _fields(schema)
        if field.endswith("_fen")
    ]
    assert len(amounts) > 20
    assert [name for name, part in amounts if not _is_integer(part)] == []


@pytest.mark.parametrize(
    "source",
    [
        "share_fen: float = 1.0",
        "def f(total_fen: Decimal): ...",
        "x.total_fen / 100",
        "float(a_fen)",
    ],
)
def test_floating_money_would_be_seen(source: str) -> None:
    assert floating_money(ast.parse(source))


def test_the_contract_needs_pydantic_alone() -> None:
    allowed = {"pydantic", "pydantic_core", "schemas"}
    for path in (CLONE / "schemas").glob("*.py"):
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names}
            foreign = {top for top in tops - allowed if not _is_standard(top)}
            assert foreign == set(), path.name


def test_no_module_lies_idle() -> None:
    """Each is imported by the product or started by name."""
    used = {name for path in product_files() for name in _imports(parsed(path))}
    started = {process.module for process in PROCESSES} | {"services.kit.migrate"}
    started |= {module for module, _purpose in cli.ELSEWHERE.values()}
    started |= {f"services.{name}.agents" for name in flow.SERVICES} | {"services.kit.topics"}
    idle = set()
    for path in product_files():
        name = ".".join(path.relative_to(CLONE).with_suffix("").parts)
        by_name = path.name in ("__init__.py", "__main__.py") or MAIN in path.read_text()
        idle |= set() if by_name else {name} - used - started
    assert idle == set(IDLE_ALLOWED)


def test_the_borders_are_drawn_for_every_service() -> None:
    settings = tomllib.loads((CLONE / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = {item["type"]: item for item in settings["contracts"]}
    layered = [item for item in settings["contracts"] if item["type"] == "layers"]
    services = {f"services.{name}" for name in flow.SERVICES}
    inside = next(item for item in layered if "containers" in item)
    assert set(inside["containers"]) == services
    assert inside["layers"] == ["(app)", "(api) | (agents)", "(store)", "(ports)", "(domain)"]
    assert set(contracts["independence"]["modules"]) == services | {"services.sandbox"}
    across = next(item for item in layered if "containers" not in item)["layers"]
    assert across.index("services.kit") < across.index("schemas")
    beside = next(layer for layer in across if "services.review" in layer)
    assert services <= set(beside.split(" | "))
    core = contracts["forbidden"]
    assert {f"{name}.domain" for name in services} == set(core["source_modules"])
    assert {"services.kit", "asyncpg", "aiokafka", "faust", "asyncio", "time", "random"} <= set(
        core["forbidden_modules"]
    )
    assert "imports" in testing.CHECKS


def markdown() -> list[Path]:
    return [path for path in committed() if path.suffix == ".md"]


def test_the_commands_of_the_documents_exist() -> None:
    known = set(get_command(cli.app).commands)  # type: ignore[attr-defined]
    named = {
        word
        for path in markdown()
        for word in re.findall(r"(?:\./|`)yaoda ([a-z]+)", path.read_text())
    }
    assert {"demo", "test"} <= named
    assert named - known == set()


def test_the_modules_of_the_documents_exist() -> None:
    for path in markdown():
        for module in re.findall(r"python -m ([a-z_.]+)", path.read_text()):
            assert importlib.util.find_spec(module) is not None, f"{path.name}: {module}"


def test_the_links_of_the_documents_lead_somewhere() -> None:
    broken = []
    for path in markdown():
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            if not link.startswith("http") and not (path.parent / link).exists():
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_the_files_the_documents_name_exist() -> None:
    pattern = r"`((?:services|schemas|tests|docs|deploy)/[\w./-]+?)/?`"
    for path in markdown():
        for name in re.findall(pattern, path.read_text()):
            assert (CLONE / name).exists(), f"{path.name}: {name}"


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {}).items()


def _is_integer(part: dict[str, Any]) -> bool:
    kinds = {item.get("type") for item in part.get("anyOf", [part])}
    return "integer" in kinds and kinds <= {"integer", "null"}


def _is_standard(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and "site-packages" not in str(spec.origin)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
