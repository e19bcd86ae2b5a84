"""Dead letters as a person chooses and reads them: pure, no IO."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from schemas.flow import SERVICES
from services.local.errors import LocalError

Letter = Mapping[str, Any]

OPEN = ("parked", "refused")
STATES = ("parked", "behind", "refused", "replayed", "discarded")
MEANING = {
    "parked": "blocks its order here until it is replayed or discarded",
    "behind": "waits behind a parked message of the same order",
    "refused": "was refused to its sender; blocks nothing",
    "replayed": "was fed again",
    "discarded": "was given up",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class NothingThere(LocalError):
    """No letter has that id, or none matches."""

    exit_code = 4


class ServiceDown(LocalError):
    """A service that may hold what is asked for did not answer."""

    exit_code = 5


class Unclear(LocalError):
    """The arguments do not say what to do."""

    exit_code = 2


@dataclass(frozen=True)
class Selection:
    """Which letters: by id, or by all of what else is said."""

    ids: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    states: tuple[str, ...] = OPEN
    code: str | None = None
    type: str | None = None
    older_s: float | None = None
    everything: bool = False

    def require(self) -> None:
        """Raises Unclear when nothing, or too much, was said."""
        narrowed = self.orders or self.services or self.code or self.type or self.older_s
        if not (self.ids or narrowed or self.everything):
            raise Unclear(
                "Say which ones: ids, --order, --service, --code, --type, --older, or --all."
            )
        if self.ids and (narrowed or self.everything):
            raise Unclear("Name ids, or say what they have in common, not both.")

    def queries(self) -> list[dict[str, Any]]:
        """The parameters of `/v1/dlq`, once for each order that was named."""
        common: dict[str, Any] = {"state": list(self.states), "limit": 1000}
        named = {"code": self.code, "type": self.type, "older_s": self.older_s}
        common |= {name: value for name, value in named.items() if value is not None}
        return [common | {"order": order} for order in self.orders] or [common]

    def where(self) -> Sequence[str]:
        """The services to ask."""
        return self.services or SERVICES


@dataclass
class Outcome:
    """What became of the letters of one run."""

    action: str
    matched: int
    done: list[str] = field(default_factory=list)
    # Fed or given up together with one before it in the same run.
    gone: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """For a person."""
        verb = "replayed" if self.action == "replay" else "discarded"
        parts = [f"{len(self.done)} of {self.matched} {verb}"]
        parts += [f"{len(self.gone)} had gone already"] if self.gone else []
        parts += [f"{len(self.bad)} still bad"] if self.bad else []
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {"action": self.action, "matched": self.matched, **_lists(self)}


def _lists(outcome: Outcome) -> dict[str, Any]:
    return {"done": outcome.done, "gone": outcome.gone, "bad": outcome.bad}


def seconds_of(text: str) -> float:
    """`90s`, `10m`, `2h` or `3d` in seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise ValueError(f"{text} is no age: write 90s, 10m, 2h or 3d")
    return float(match[1]) * _UNITS[match[2]]


def is_id(text: str) -> bool:
    """Whether it is a UUID; an order's number never is."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def in_order(letters: Iterable[Letter]) -> list[Letter]:
    """As they must be fed: each service's oldest first."""
    return sorted(letters, key=lambda row: (SERVICES.index(row["service"]), row["seq"]))


def by_urgency(letters: Iterable[Letter]) -> list[Letter]:
    """As a person wants to see them: those first that block an order."""
    return sorted(letters, key=lambda row: (STATES.index(row["state"]), row["first_at"]))


def title(row: Letter, numbers: Mapping[str, str]) -> str:
    """One letter in words of orders."""
    return f"{row['message_type']} of {order_of(row, numbers)} in {row['service']}"


def order_of(row: Letter, numbers: Mapping[str, str]) -> str:
    """The order by its number where it is known."""
    order_id = row["order_id"]
    if not order_id:
        return "no known order"
    number = numbers.get(order_id)
    return f"order {number} ({order_id})" if number else f"order {order_id}"


def why(row: Letter) -> str:
    """Code and detail; the field only where the detail does not begin with it."""
    where = row["field"] if not str(row["detail"]).startswith(row["field"] or " ") else ""
    return " ".join(filter(None, (row["code"], where, row["detail"])))


def listed(row: Letter, numbers: Mapping[str, str]) -> list[str]:
    """A letter in a list; nothing of its body."""
    corrected = " (corrected)" if row.get("corrections") else ""
    return [f"{row['id']}  {row['state']}{corrected}: {title(row, numbers)}", f"    {why(row)}"]


def whole(row: Letter, numbers: Mapping[str, str]) -> list[str]:
    """A letter with headers, body and corrections."""
    lines = [f"{title(row, numbers)}: {row['state']}", f"  {MEANING[row['state']]}"]
    lines.append(f"  why: {why(row)}")
    if row["topic"]:
        lines.append(f"  from: {row['topic']}/{row['part']} at {row['offset']}")
    lines.append(f"  since: {row['first_at']}, tried {row['attempts']} times")
    if row["actor"]:
        lines.append(f"  {row['actor']}: {row['reason']}")
    lines += [f"  {name}: {value}" for name, value in row["headers"]]
    if row.get("hidden"):
        lines.append("  texts are hidden, they may name a person; `--reveal --reason …` shows them")
    lines.append(row["body"])
    for item in row.get("corrected", ()):
        lines.append(f"correction {item['number']} by {item['actor']}: {item['reason']}")
        lines.append(item["body"])
    return lines
