"""Reads packs from files: a library of rules and classes, and packs that choose from it."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from services.review.rules.pack import Pack, PackError, Vector


class Folder(Protocol):
    """A folder of the package or of the file system."""

    @property
    def name(self) -> str: ...
    def iterdir(self) -> Iterator["Folder"]: ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...
    def joinpath(self, child: str) -> "Folder": ...
    def read_text(self, encoding: str) -> str: ...


@dataclass
class _Library:
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    vectors: dict[str, tuple[Vector, ...]] = field(default_factory=dict)
    sets: dict[str, list[str]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    heads: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class Packs:
    """All packs of an installation that stand together; the first without a place is general."""

    packs: tuple[Pack, ...]
    vectors: Mapping[str, tuple[Vector, ...]]
    where: Mapping[str, str]

    def chosen(self, city: str = "", hospital: str = "") -> Pack:
        """The pack of a hospital, else of its city, its province, else the general one."""
        for pack in self.packs:
            if hospital and hospital in pack.head.hospitals:
                return pack
        fitting = [
            (len(place), pack)
            for pack in self.packs
            if city and not pack.head.hospitals
            for place in pack.head.cities
            if place == city or (place[-1] == "*" and city.startswith(place[:-1]))
        ]
        return max(fitting, key=_first)[1] if fitting else self.general

    @property
    def general(self) -> Pack:
        """The pack that holds where no other does."""
        return next(p for p in self.packs if not (p.head.cities or p.head.hospitals))


def _first(fitting: tuple[int, Pack]) -> int:
    return fitting[0]


@cache
def installed() -> Packs:
    """The packs in this installation. Raises PackError."""
    here: Any = files(__package__)
    return read(here)


_STANDING: list[Packs] = []


def standing() -> Packs:
    """The packs in force in this process; those of the installation unless others were put up."""
    return _STANDING[-1] if _STANDING else installed()


def stand(packs: Packs) -> None:
    """From the next prescription on these hold."""
    _STANDING[:] = [packs]


_DARK: list[Packs] = []


def chosen_in_the_dark(city: str, hospital: str) -> Pack | None:
    """The pack that would hold there, if those in the dark stood; None where they say the same."""
    if not _DARK:
        return None
    pack = _DARK[-1].chosen(city, hospital)
    return None if pack.id == standing().chosen(city, hospital).id else pack


def stand_in_the_dark(packs: Packs | None) -> None:
    """From the next prescription on these are asked as well; None: nobody else is."""
    _DARK[:] = [] if packs is None else [packs]


def read(folder: Folder, under: Folder | None = None) -> Packs:
    """All packs of a folder with `library` and `packs`; what is not in it comes from `under`.

    Raises PackError with rule, file and line; then nothing of the folder is taken.
    """
    found = _Library()
    for place in (under, folder):
        for name in ("library", "packs"):
            if place is not None and place.joinpath(name).is_dir():
                _read_files(found, place.joinpath(name))
    packs = tuple(_pack(found, file, head) for file, head in found.heads)
    names = [pack.head.name for pack in packs]
    if len(set(names)) < len(names):
        raise PackError(f"two packs are called {_repeated(names)}")
    if sum(not (pack.head.cities or pack.head.hospitals) for pack in packs) != 1:
        raise PackError("there must be exactly one pack without cities and hospitals")
    return Packs(packs, found.vectors, found.where)


def _read_files(found: _Library, folder: Folder) -> None:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".toml"):
            continue
        text = entry.read_text("utf-8")
        name = f"{folder.name}/{entry.name}"
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PackError(str(error), where=name) from None
        _take(found, table, name, text)


def _take(found: _Library, table: Mapping[str, Any], file: str, text: str) -> None:
    for key, members in table.get("sets", {}).items():
        if key in found.sets:
            raise PackError(f"the class {key} stands twice", where=file)
        found.sets[key] = list(members)
    for row in table.get("rule", ()):
        name = str(row.get("id", "without id"))
        where = f"{file}:{_line_of(text, name)}"
        if name in found.rules:
            raise PackError(f"stands twice, also in {found.where[name]}", name, where)
        found.where[name] = where
        found.vectors[name] = tuple(_vector(v, name, where) for v in row.pop("vectors", ()))
        found.rules[name] = row
    if "pack" in table:
        found.heads = [
            (place, head) for place, head in found.heads
            if head["pack"].get("name") != table["pack"].get("name")
        ]  # fmt: skip
        found.heads.append((file, dict(table)))


def _vector(row: Mapping[str, Any], rule: str, where: str) -> Vector:
    try:
        return Vector.model_validate(row)
    except ValueError as error:
        raise PackError(f"vector {row.get('name')!r}: {error}", rule, where) from None


def _line_of(text: str, rule: str) -> int:
    for number, line in enumerate(text.splitlines(), 1):
        if line.replace(" ", "").startswith(f'id="{rule}"'):
            return number
    return 1


def _pack(found: _Library, file: str, table: Mapping[str, Any]) -> Pack:
    chain = [table, *_extended(found, file, table)]
    head: dict[str, Any] = {}
    parts = ("rates", "frequencies", "codes", "desk")
    merged: dict[str, dict[str, Any]] = {part: {} for part in parts}
    off: set[str] = set()
    changes: list[Mapping[str, Any]] = []
    for step in reversed(chain):
        head = {**_inherited(head), **step["pack"]}
        for key, values in merged.items():
            values.update(step.get(key, {}))
        off.update(step.get("off", {}).get("rules", ()))
        changes += step.get("change", ())
    head.pop("extends", None)
    rules = {name: row for name, row in found.rules.items() if name not in off}
    for change in changes:
        rules = _changed(rules, change, file)
    _known(off, found, file)
    content = {
        "pack": head,
        **merged,
        "sets": found.sets,
        "rules": [rules[name] for name in sorted(rules)],
    }
    return Pack(_plain(content), {**found.where, "": file})


def _inherited(head: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in head.items() if key not in ("cities", "hospitals")}


def _extended(found: _Library, file: str, table: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    seen = {table["pack"].get("name")}
    wanted = table["pack"].get("extends")
    while wanted:
        base = next((t for _, t in found.heads if t["pack"].get("name") == wanted), None)
        if base is None or wanted in seen:
            raise PackError(f"extends {wanted!r}, which is no other pack", where=file)
        seen.add(wanted)
        yield base
        wanted = base["pack"].get("extends")


def _changed(
    rules: dict[str, dict[str, Any]], change: Mapping[str, Any], file: str
) -> dict[str, dict[str, Any]]:
    name = str(change.get("rule"))
    if name not in rules:
        raise PackError("is changed but not in the pack", name, file)
    row = rules[name]
    figures = {**row.get("figures", {}), **change.get("figures", {})}
    rest = {key: value for key, value in change.items() if key not in ("rule", "figures")}
    return {**rules, name: {**row, **rest, "figures": figures}}


def _known(names: Iterable[str], found: _Library, file: str) -> None:
    for name in sorted(names):
        if name not in found.rules:
            raise PackError("is switched off but stands nowhere", name, file)


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _plain(value: Any) -> Any:
    """As JSON holds it, so that what is stored is what was read."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value
