"""Where the published contract stands, and the difference to what the models say today."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from schemas.publish import asyncapi
from schemas.publish.compatibility import Break, breaks_with_all
from schemas.publish.documents import Schema, all_schemas, name_of, text_of
from schemas.publish.samples import sample_of
from schemas.registry import MODELS, UPCASTERS

ROOT = Path(__file__).parents[1]


def generated() -> dict[str, str]:
    """Path below `schemas/` → text of each file that is made anew from the models."""
    files = {f"json/{name}.json": text_of(schema) for name, schema in all_schemas().items()}
    return {**files, "asyncapi.yaml": asyncapi.text()}


def stale_files(root: Path = ROOT) -> list[str]:
    """Generated files that are missing, differ from a fresh generation, or have no model."""
    fresh = generated()
    present = {f"json/{path.name}" for path in (root / "json").glob("*.json")}
    differing = {path for path, text in fresh.items() if _text(root / path) != text}
    return sorted(differing | (present - fresh.keys()))


def write(root: Path = ROOT) -> list[str]:
    """Bring the generated files up to date and add samples that are missing; the paths changed."""
    fresh = generated()
    stale = stale_files(root)
    for path in stale:
        if path in fresh:
            _write(root / path, fresh[path])
        else:
            (root / path).unlink()
    return [*stale, *_write_samples(root)]


def _write_samples(root: Path) -> list[str]:
    """A sample that exists is never touched: it stands for what is already on topics."""
    schemas = all_schemas()
    added = []
    for model in MODELS.values():
        path = f"golden/{name_of(model)}.json"
        if not (root / path).exists():
            _write(root / path, text_of(sample_of(model, schemas[name_of(model)])))
            added.append(path)
    return added


def freeze(root: Path = ROOT) -> list[str]:
    """Keep today's schemas for ever, as a release is made; the paths added."""
    added = []
    for name, schema in all_schemas().items():
        earlier = earlier_versions(name, root)
        if not earlier or earlier[-1] != schema:
            path = f"json/baseline/{name}/{len(earlier) + 1:04d}.json"
            _write(root / path, text_of(schema))
            added.append(path)
    return added


def earlier_versions(name: str, root: Path = ROOT) -> list[Schema]:
    """The schemas of this name that were ever released, oldest first."""
    folder = root / "json" / "baseline" / name
    return [from_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def incompatible(root: Path = ROOT) -> dict[str, list[Break]]:
    """Schema name → what it would break, over everything ever released; empty when nothing."""
    return {name: found for name, found in _comparisons(root) if found}


def _comparisons(root: Path) -> Iterator[tuple[str, list[Break]]]:
    today = all_schemas()
    for folder in sorted((root / "json" / "baseline").iterdir()):
        if folder.name in today:
            yield (
                folder.name,
                breaks_with_all(earlier_versions(folder.name, root), today[folder.name]),
            )
        elif not is_upcast(folder.name):
            gone = Break("", "was released and can no longer be read: no model and no upcaster")
            yield folder.name, [gone]


def is_upcast(name: str) -> bool:
    """Whether a version that is no longer written can still be read."""
    type_name, _, version = name.rpartition(".v")
    return version.isdigit() and (type_name, int(version)) in UPCASTERS


def sample(name: str, root: Path = ROOT) -> dict[str, Any]:
    """The frozen sample: `headers` and `body`."""
    found: dict[str, Any] = from_json((root / "golden" / f"{name}.json").read_bytes())
    return found


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
