"""The pharmacists at the review desk: take a case, look at it, decide each sheet."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from schemas.review import DecideCase, TakeCase
from services.sandbox.fates import Verdict
from services.sandbox.stage import Entry, Stage

PHARMACIST = "R-110101-0001"
_REASONS = {
    Verdict.APPROVE: ("", ""),
    Verdict.RETURN: ("1-8", "The usage is not clear enough, please state it again."),
    Verdict.REJECT: ("2-9", "Not suitable for this patient."),
}


class Reviewer:
    """One desk with as many pharmacists as it takes."""

    tenants = ("reviewers",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._looks: Counter[UUID] = Counter()

    def hear(self, entry: Entry) -> None:
        """A case for a person, or its end."""
        match entry.type:
            case "review.ReviewEscalated":
                self._stage.book.when_known(
                    entry.subject, lambda number: self._escalated(entry, number)
                )
            case "review.ReviewApproved" | "review.ReviewRejected" | "review.ReviewCancelled":
                self._stage.agenda.drop_about(("case", entry.subject))

    def _escalated(self, entry: Entry, number: str) -> None:
        wanted = [UUID(text) for text in entry.data["prescription_ids"]]
        # The nth look at a sheet is a look at its nth version.
        self._looks.update(wanted)
        looks = {prescription_id: self._looks[prescription_id] for prescription_id in wanted}
        script = self._stage.book.script_of(number)
        order = [s.prescription_id for s in script.submit.prescriptions] if script else wanted
        fates = {
            prescription_id: self._stage.fates.review(number, order.index(prescription_id), look)
            for prescription_id, look in looks.items()
        }

        async def decide() -> None:
            await self._decide(entry.subject, {key: fate for key, (fate, _) in fates.items()})

        seconds = sum(wait for _, wait in fates.values())
        label = f"review/{number}/{max(looks.values())}/{order.index(wanted[0])}"
        at = entry.at
        self._stage.plan(label, at, seconds, decide, about=("case", entry.subject))

    async def _decide(self, order_id: UUID, verdicts: Mapping[UUID, Verdict]) -> None:
        post = self._stage.post
        take = TakeCase(order_id=order_id, pharmacist=PHARMACIST)
        taken = await post.command("reviewers", "/v1/reviews/take", take)
        if not taken.ok:
            return
        case = await post.get("reviewers", f"/v1/reviews/{order_id}")
        if not case.ok:
            post.refused["/v1/reviews/{order_id}"][case.code] += 1
            return
        versions = _versions(case.body)
        for prescription_id, verdict in verdicts.items():
            code, reason = _REASONS[verdict]
            command = DecideCase(
                order_id=order_id,
                prescription_id=prescription_id,
                version=versions.get(prescription_id, 1),
                pharmacist=PHARMACIST,
                lease=UUID(str(taken.body["lease"])),
                decision=verdict.value,
                code=code,
                reason=reason,
            )
            await post.command("reviewers", "/v1/reviews/decide", command)


def _versions(case: Mapping[str, Any]) -> dict[UUID, int]:
    """The version of each sheet of an opened case."""
    sheets = case.get("prescriptions") or case.get("clinical", {}).get("prescriptions", ())
    return {UUID(str(s["prescription_id"])): int(s["version"]) for s in sheets}
