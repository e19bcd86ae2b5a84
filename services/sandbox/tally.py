"""Counts what the hospitals' feeds tell: outcomes, promises kept, and how long each stage took."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.sandbox.stage import Entry

# Stage: from the last of the first type to the first of the second type after it.
STAGES = {
    "review": ("prescription.PrescriptionIssued", "review.ReviewApproved"),
    "claim": ("review.ReviewApproved", "claim.ClaimAuthorised"),
    "dispatch": ("claim.ClaimAuthorised", "dispatch.PharmacyAssigned"),
    "pharmacy_review": ("dispatch.PharmacyAssigned", "delivery.PharmacyReviewed"),
    "picking": ("delivery.PharmacyReviewed", "delivery.ParcelSealed"),
    "settlement": ("delivery.ParcelSealed", "delivery.ParcelReleased"),
    "courier_wait": ("delivery.ParcelReleased", "delivery.ParcelPickedUp"),
    "ride": ("delivery.ParcelPickedUp", "delivery.ParcelDelivered"),
    "platform": ("claim.ClaimAuthorised", "delivery.ParcelDelivered"),
    "patient": ("prescription.PrescriptionIssued", "delivery.ParcelDelivered"),
}
_KEPT = frozenset(name for pair in STAGES.values() for name in pair)


@dataclass
class Course:
    """One order as its hospital saw it; times of the last fact of each type."""

    tier: str = ""
    first_due: datetime | None = None
    late: bool | None = None
    outcome: str = ""
    last: str = ""
    at: dict[str, datetime] = field(default_factory=dict)


class Tally:
    """Hears the hospitals' feeds."""

    def __init__(self) -> None:
        self.courses: defaultdict[UUID, Course] = defaultdict(Course)
        self.facts: Counter[str] = Counter()

    def hear(self, entry: Entry) -> None:
        """One fact about one order."""
        self.facts[entry.type] += 1
        course = self.courses[entry.subject]
        course.last = entry.type
        if entry.type in _KEPT:
            course.at[entry.type] = entry.at
        match entry.type:
            case "prescription.PrescriptionIssued":
                course.tier = entry.data["order"]["tier"]
            case "dispatch.PromiseMade":
                course.first_due = datetime.fromisoformat(entry.data["due_at"])
            case "delivery.ParcelDelivered":
                course.late = bool(entry.data["late"])
            case "claim.OrderClosed":
                course.outcome = entry.data["outcome"]

    def closed(self) -> dict[str, int]:
        """Orders by outcome."""
        counts = Counter(c.outcome for c in self.courses.values() if c.outcome)
        return dict(sorted(counts.items()))

    def standing(self) -> dict[str, int]:
        """Orders that are not closed, by the last that was heard of them."""
        return dict(Counter(c.last for c in self.courses.values() if not c.outcome))

    def on_time(self) -> dict[str, float]:
        """Of the delivered orders of each tier, those at the door within the first promise."""
        return self._share_by_tier(_kept_first)

    def on_time_as_changed(self) -> dict[str, float]:
        """The same against the promise as it stood in the end."""
        return self._share_by_tier(lambda course: course.late is False)

    def latency_ms(self) -> dict[str, dict[str, int]]:
        """Simulated milliseconds a stage took, over the orders that passed it."""
        spans: dict[str, list[float]] = {name: [] for name in STAGES}
        for course in self.courses.values():
            for name, (start, end) in STAGES.items():
                if (begun := course.at.get(start)) and (ended := course.at.get(end)):
                    spans[name].append((ended - begun).total_seconds() * 1000)
        return {name: _quantiles(values) for name, values in spans.items() if values}

    def _share_by_tier(self, kept: Callable[[Course], bool]) -> dict[str, float]:
        delivered: Counter[str] = Counter()
        good: Counter[str] = Counter()
        for course in self.courses.values():
            if course.late is not None:
                delivered[course.tier] += 1
                good[course.tier] += bool(kept(course))
        return {tier: round(good[tier] / count, 4) for tier, count in sorted(delivered.items())}


def _kept_first(course: Course) -> bool:
    arrived = course.at.get("delivery.ParcelDelivered")
    return arrived is not None and course.first_due is not None and arrived <= course.first_due


def _quantiles(values: Sequence[float]) -> dict[str, int]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {f"p{q}": round(ordered[round(last * q / 100)]) for q in (50, 95, 99)}


def shares(counts: Mapping[str, float], total: float) -> dict[str, float]:
    """Counts as shares of a total, six digits."""
    return {name: round(count / total, 6) for name, count in counts.items()} if total else {}
