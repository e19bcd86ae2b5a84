"""Reads the services' code: which facts a handler can make, without running it."""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from schemas.message import Command, Event

CLONE = Path(__file__).parents[2]
PRODUCT = ("services", "schemas")
CONSTRUCTORS = frozenset({"model_construct", "model_validate", "model_validate_json"})


def product_files(*below: str) -> list[Path]:
    """Every Python file of the product, or of these folders and files."""
    roots = [CLONE / name for name in below or PRODUCT]
    files = [root for root in roots if root.suffix == ".py"]
    return sorted([*files, *(path for root in roots for path in root.rglob("*.py"))])


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file, parsed once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


def domain(service: str) -> Any:
    """The domain of a service."""
    return importlib.import_module(f"services.{service}.domain")


def handlers(service: str) -> dict[Any, Callable[..., Any]]:
    """Message (by type name), kind of timer, or class of the kit → function."""
    module = domain(service)
    tables = {**module.HANDLERS, **getattr(module, "TIMERS", {})}
    return {getattr(key, "TYPE", key): handler for key, handler in tables.items()}


def facts_made_in(path: Path) -> set[type[Event]]:
    """The facts that a file constructs anywhere."""
    module = importlib.import_module(_dotted(path))
    return set(_made(module, parsed(path)))


class Reach:
    """What each function of a service's core may construct, itself or through what it names.

    Every function that is named counts as called, so it errs on the side of too much. Methods are
    found by name alone where they are called. `cut` names functions that are not followed.
    """

    def __init__(self, service: str, cut: frozenset[str] = frozenset()) -> None:
        self._cut = cut
        self._names: dict[str, set[str]] = {}
        self._makes: dict[str, set[type[Event]]] = {}
        for path in _core(service):
            module = importlib.import_module(_dotted(path))
            for name, node in _functions(parsed(path)):
                full = f"{module.__name__}.{name}"
                self._add(module, full, node)
                owner, _, method = name.rpartition(".")
                if owner:
                    self._names.setdefault(f".{method}", set()).add(full)

    def of(self, function: Callable[..., Any]) -> set[type[Event]]:
        """The facts that this function may make."""
        found: set[type[Event]] = set()
        seen: set[str] = set()
        waiting = {f"{function.__module__}.{function.__qualname__}"}
        while waiting:
            name = waiting.pop()
            if name in seen or name in self._cut:
                continue
            seen.add(name)
            found |= self._makes.get(name, set())
            waiting |= self._names.get(name, set())
        return found

    def knows(self, name: str) -> bool:
        """Whether there is such a function, as `services.x.domain.y.name`."""
        return name in self._names

    def _add(self, module: ModuleType, name: str, node: ast.AST) -> None:
        names = self._names.setdefault(name, set())
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                names.add(f".{part.func.attr}")
            if isinstance(part, ast.Name | ast.Attribute):
                names.update(_qualified(module, part))
        self._makes.setdefault(name, set()).update(_made(module, node))


def _core(service: str) -> Iterator[Path]:
    """The domain and the pure modules beside it; the edges and the store make no facts."""
    edges = {"api.py", "store.py", "ports.py", "agents.py", "app.py", "__main__.py"}
    folder = CLONE / "services" / service
    return (path for path in sorted(folder.rglob("*.py")) if path.name not in edges)


def _dotted(path: Path) -> str:
    parts = path.relative_to(CLONE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Functions, methods, and the tables that name functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{method.name}", method
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((part.id, node) for part in targets if isinstance(part, ast.Name))


def _qualified(module: ModuleType, node: ast.expr) -> Iterator[str]:
    found = _meant(module, node)
    if inspect.isfunction(found) or inspect.isclass(found):
        yield f"{found.__module__}.{found.__qualname__}"
    elif isinstance(node, ast.Name) and isinstance(found, Mapping):
        yield f"{module.__name__}.{node.id}"


def _made(module: ModuleType, node: ast.AST) -> Iterator[type[Event]]:
    for part in ast.walk(node):
        if not isinstance(part, ast.Call):
            continue
        made = _meant(module, part.func)
        if isinstance(part.func, ast.Attribute) and part.func.attr in CONSTRUCTORS:
            made = _meant(module, part.func.value)
        if inspect.isclass(made) and issubclass(made, Event) and not issubclass(made, Command):
            yield made


def _meant(module: ModuleType, node: ast.expr) -> Any:
    """What a name or `module.name` stands for in this module; None when it is local."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = getattr(module, node.value.id, None)
        return getattr(owner, node.attr, None) if inspect.ismodule(owner) else None
    return None
