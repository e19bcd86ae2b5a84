"""City packs: a folder with one `city.toml` a city, read into the command that opens the city.

Every fault is named by file, line and reason; a pack with a fault is not taken at all.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from schemas.datum import DATUMS, GCJ_02, WGS_84, to_wgs84
from schemas.network import ConfigureCity
from services.network.domain.city import city_flaws

# Whether somebody pays in an area, by its code.
HasPayer = Callable[[str], bool]
FILE = "city.toml"
INSTALLED = Path(__file__).parent / "cities"
SECTIONS = ("city", "tier", "speed", "area", "factor", "staff", "pressure", "payer_away")
CITY_KEYS = (
    "code", "name", "version", "timezone", "datum", "payer_area", "holidays", "detour",
    "target_percent",
)  # fmt: skip
KEYS: Mapping[str, tuple[str, ...]] = {
    "city": CITY_KEYS,
    "tier": ("tier", "minutes", "hours", "reach_m"),
    "speed": ("hours", "km_h"),
    "area": ("name", "ring"),
    "factor": ("name", "cause", "from", "until", "speed_percent", "not_offered"),
    "staff": ("who", "hours"),
    "pressure": ("under_way", "reach_m", "extra_minutes"),
    "payer_away": ("hours", "from", "until"),
}
SPAN = re.compile(r"([1-7])(?:-([1-7]))? +(\d\d:\d\d)-(\d\d:\d\d)")
DAILY = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")
HOURS = re.compile(r"(\d{1,2})-(\d{1,2})")
HEADER = re.compile(r"\s*\[\[?\s*(\w+)\s*\]\]?")
ASSIGNED = re.compile(r"\s*([\w-]+)\s*=")
# Keys of the command that are written otherwise in the file.
RENAMED = {
    "area": "ring",
    "from_hour": "hours",
    "to_hour": "hours",
    "from_at": "from",
    "until_at": "until",
}
# Lists of the command's rules, and the section that each is written in.
ROWS = {
    "tiers": "tier",
    "speeds": "speed",
    "areas": "area",
    "factors": "factor",
    "staff": "staff",
    "pressure": "pressure",
}


@dataclass(frozen=True, slots=True)
class PackFlaw:
    """One fault: where it stands and what is wrong there."""

    file: Path
    line: int
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code}: {self.reason}"


class Away(NamedTuple):
    """Hours of China, each day, in which the payer is away by plan; over midnight too."""

    begins: time
    ends: time
    effective_from: date
    effective_to: date | None


@dataclass(slots=True)
class Packs:
    """What a folder holds: the cities that are sound, and every fault of the others."""

    cities: dict[Path, ConfigureCity] = field(default_factory=dict)
    away: dict[Path, tuple[Away, ...]] = field(default_factory=dict)
    flaws: list[PackFlaw] = field(default_factory=list)


class _Bad(Exception):
    def __init__(self, section: str, number: int, key: str, code: str, reason: str) -> None:
        super().__init__(reason)
        self.place = section, number, key
        self.code, self.reason = code, reason


def read(folder: Path, has_payer: HasPayer = lambda _area: True) -> Packs:
    """All packs below a folder, or the one it is; `has_payer` says whether one pays in an area."""
    packs = Packs()
    files = [folder / FILE] if (folder / FILE).is_file() else sorted(folder.glob(f"*/{FILE}"))
    if not files:
        packs.flaws.append(PackFlaw(folder, 1, "no_pack", f"there is no {FILE} in it"))
    codes: dict[str, Path] = {}
    for file in files:
        command, away, flaws = _read_one(file, has_payer)
        if command is not None:
            other = codes.setdefault(command.city, file)
            if other is not file:
                reason = f"the city {command.city} also stands in {other}"
                flaws.append(PackFlaw(file, 1, "duplicate_city", reason))
        packs.flaws += flaws
        if command is not None and not flaws:
            packs.cities[file] = command
            packs.away[file] = away
    return packs


def _read_one(
    file: Path, has_payer: HasPayer
) -> tuple[ConfigureCity | None, tuple[Away, ...], list[PackFlaw]]:
    """One file; the command is None when it cannot be read as one."""
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except UnicodeDecodeError:
        return None, (), [PackFlaw(file, 1, "not_utf8", "the file is not UTF-8")]
    except OSError as error:
        return None, (), [PackFlaw(file, 1, "unreadable", str(error.strerror))]
    except tomllib.TOMLDecodeError as error:
        flaw = PackFlaw(file, _line_in(str(error), text), "not_toml", str(error))
        return None, (), [flaw]
    lines = _Lines(text)
    try:
        command = ConfigureCity.model_validate(_command(table))
        away = _away(table)
    except _Bad as bad:
        return None, (), [PackFlaw(file, lines.of(*bad.place), bad.code, bad.reason)]
    except ValidationError as error:
        return (
            None,
            (),
            [
                PackFlaw(file, lines.of_path(item["loc"]), item["type"], _said(item))
                for item in error.errors(include_url=False, include_input=False)
            ],
        )
    flaws = [
        PackFlaw(file, lines.of_path(flaw.field.split(".")), flaw.code, flaw.detail)
        for flaw in city_flaws(command)
    ]
    area = command.rules.payer_area if command.rules else None
    if area is not None and not has_payer(area):
        line = lines.of("city", 0, "payer_area")
        flaws.append(PackFlaw(file, line, "unknown_code", f"no payer has the area {area}"))
    if area is None and away:
        line = lines.of("payer_away", 0, "")
        flaws.append(PackFlaw(file, line, "payer_missing", "[city] has no payer_area"))
    return command, away, flaws


def _said(item: Any) -> str:
    return f"{'.'.join(map(str, item['loc']))}: {item['msg']}"


def _command(table: Mapping[str, Any]) -> dict[str, Any]:
    """The command's fields. Raises _Bad for what cannot be read at all."""
    for section, content in table.items():
        if section not in SECTIONS:
            raise _Bad(section, 0, "", "unknown_section", f"no section is called {section!r}")
        for number, row in enumerate([content] if section == "city" else content):
            _check_keys(section, number, row)
    city = table.get("city")
    if not isinstance(city, dict):
        raise _Bad("city", 0, "", "city_missing", "there is no section [city]")
    datum = city.get("datum", WGS_84)
    if datum not in DATUMS:
        raise _Bad("city", 0, "datum", "unknown_datum", f"the datum is one of {', '.join(DATUMS)}")
    tiers = table.get("tier", [])
    rules = {
        "pack": f"{city.get('code')}@{city.get('version', '0')}",
        "areas": [_area(n, row, datum) for n, row in enumerate(table.get("area", []))],
        "tiers": [_tier(n, row) for n, row in enumerate(tiers)],
        "speeds": [_speed(n, row) for n, row in enumerate(table.get("speed", []))],
        "factors": [_factor(n, row, city) for n, row in enumerate(table.get("factor", []))],
        "staff": [_staff(n, row) for n, row in enumerate(table.get("staff", []))],
        "pressure": table.get("pressure", []),
        **{
            key: city[key]
            for key in ("payer_area", "holidays", "detour", "target_percent")
            if key in city
        },
    }
    told = {key: city[key] for key in ("name", "timezone") if key in city}
    named = [row["tier"] for row in tiers if "tier" in row]
    return {"city": city.get("code"), **told, "tiers": named, "rules": rules}


def _check_keys(section: str, number: int, row: Any) -> None:
    if not isinstance(row, dict):
        raise _Bad(section, number, "", "bad_section", f"[{section}] is a table")
    for key in row:
        if key not in KEYS[section]:
            raise _Bad(section, number, key, "unknown_key", f"[{section}] has no key {key!r}")


def _tier(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: row[key] for key in ("tier", "minutes", "reach_m") if key in row}
    return {**told, "hours": _hours("tier", number, row)}


def _staff(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: row[key] for key in ("who",) if key in row}
    return {**told, "hours": _hours("staff", number, row)}


def _factor(number: int, row: Mapping[str, Any], city: Mapping[str, Any]) -> dict[str, Any]:
    """Times without an offset are the city's own."""
    told = {key: row[key] for key in KEYS["factor"] if key in row}
    for key, name in (("from", "from_at"), ("until", "until_at")):
        at = told.pop(key, None)
        if not isinstance(at, datetime):
            reason = f"{key} is a moment, such as 2026-02-16T18:00:00"
            raise _Bad("factor", number, key, "bad_moment", reason)
        if at.tzinfo is None:
            try:
                at = at.replace(tzinfo=ZoneInfo(str(city.get("timezone"))))
            except (KeyError, ValueError, OSError):
                # Which the city's own check says better.
                at = at.replace(tzinfo=UTC)
        told[name] = at.astimezone(UTC).isoformat()
    return told


def _hours(section: str, number: int, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    spans = row.get("hours", [])
    if not isinstance(spans, list):
        raise _Bad(section, number, "hours", "bad_hours", "hours are a list")
    return [part for span in spans for part in _openings(section, number, span)]


def _openings(section: str, number: int, span: Any) -> Iterator[dict[str, Any]]:
    found = SPAN.fullmatch(span.strip()) if isinstance(span, str) else None
    if found is None:
        reason = f"{span!r}: write weekdays and times as '1-5 08:00-22:00', Monday is 1"
        raise _Bad(section, number, "hours", "bad_hours", reason)
    first, last, opens, closes = found.groups()
    try:
        times = {"opens": time.fromisoformat(opens), "closes": time.fromisoformat(closes)}
    except ValueError as error:
        raise _Bad(section, number, "hours", "bad_hours", f"{span!r}: {error}") from None
    days = range(int(first), int(last or first) + 1)
    if not days:
        raise _Bad(section, number, "hours", "bad_hours", f"{span!r}: no day at all")
    for day in days:
        yield {"weekday": day, **times}


def _away(table: Mapping[str, Any]) -> tuple[Away, ...]:
    """When the payer is away by plan. Raises _Bad."""
    return tuple(_away_row(n, row) for n, row in enumerate(table.get("payer_away", [])))


def _away_row(number: int, row: Mapping[str, Any]) -> Away:
    section, found = "payer_away", DAILY.fullmatch(str(row.get("hours", "")))
    try:
        begins, ends = (time.fromisoformat(at) for at in found.groups()) if found else (None, None)
    except ValueError as error:
        raise _Bad(section, number, "hours", "bad_hours", f"{row['hours']!r}: {error}") from None
    if begins is None or ends is None:
        raise _Bad(section, number, "hours", "bad_hours", "write hours of a day as '23:50-00:20'")
    if begins == ends:
        raise _Bad(
            section, number, "hours", "bad_hours", "a payer that is always away pays nothing"
        )
    first: Any = row.get("from")
    last: Any = row.get("until")
    for key, day in (("from", first), ("until", last)):
        if type(day) is not date and (key == "from" or day is not None):
            raise _Bad(section, number, key, "bad_day", f"{key} is a day, such as 2026-03-01")
    if last is not None and last < first:
        raise _Bad(section, number, "until", "never", "it ends before it begins")
    return Away(begins, ends, first, last)


def _speed(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    found = HOURS.fullmatch(str(row.get("hours", "")))
    if found is None:
        raise _Bad("speed", number, "hours", "bad_hours", "write full hours as '7-10'")
    told = {"km_h": row["km_h"]} if "km_h" in row else {}
    return {"from_hour": int(found[1]), "to_hour": int(found[2]), **told}


def _area(number: int, row: Mapping[str, Any], datum: str) -> dict[str, Any]:
    ring = row.get("ring")
    try:
        points = [(float(lon), float(lat)) for lon, lat in ring or ()]
    except (TypeError, ValueError):
        raise _Bad("area", number, "ring", "bad_area", "a ring is a list of [lon, lat]") from None
    if datum == GCJ_02:
        points = [to_wgs84(lat, lon)[::-1] for lon, lat in points]
    return {"name": row.get("name"), "area": points}


class _Lines:
    """Where the sections and keys of a file stand."""

    def __init__(self, text: str) -> None:
        self._of: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        section, number = "", 0
        for at, line in enumerate(text.splitlines(), start=1):
            if header := HEADER.match(line):
                section = header[1]
                number = counts.get(section, 0)
                counts[section] = number + 1
                self._of[section, number, ""] = at
            elif assigned := ASSIGNED.match(line):
                self._of.setdefault((section, number, assigned[1]), at)

    def of(self, section: str, number: int, key: str) -> int:
        """The line of a key, else of its section, else the first."""
        return self._of.get((section, number, key), self._of.get((section, number, ""), 1))

    def of_path(self, path: Any) -> int:
        """The line of a field of the command."""
        parts = [str(part) for part in path]
        if parts[:1] == ["tiers"]:
            return self._of_row("tier", [*parts[1:], "tier"])
        if parts[0] == "rules" and len(parts) > 1 and parts[1] in ROWS:
            return self._of_row(ROWS[parts[1]], parts[2:])
        key = parts[1] if parts[0] == "rules" and len(parts) > 1 else parts[0]
        renamed = {"city": "code", "pack": "version"}
        return self.of("city", 0, renamed.get(key, key))

    def _of_row(self, section: str, rest: list[str]) -> int:
        number = int(rest[0]) if rest and rest[0].isdigit() else 0
        key = RENAMED.get(rest[1], rest[1]) if len(rest) > 1 else ""
        return self.of(section, number, key)


def _line_in(message: str, text: str) -> int:
    """The line that the parser names, or the last one."""
    found = re.search(r"line (\d+)", message)
    return int(found[1]) if found else max(1, len(text.splitlines()))
