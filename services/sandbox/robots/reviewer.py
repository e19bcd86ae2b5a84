"""The pharmacists at the review desk: take a case, look at it, decide each sheet."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from schemas.review import DecideCase, TakeCase
from services.sandbox.fates import Verdict
from services.sandbox.stage import Entry, Stage

# Licence and title; a second one decides what two must pass.
PHARMACISTS = (("R-110101-0001", "2.4"), ("R-110101-0002", "2.2"))
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
        for pharmacist, title in PHARMACISTS:
            verdicts = await self._decide_as(pharmacist, title, order_id, verdicts)
            if not verdicts:
                return

    async def _decide_as(
        self, pharmacist: str, title: str, order_id: UUID, verdicts: Mapping[UUID, Verdict]
    ) -> Mapping[UUID, Verdict]:
        """What is left for somebody else."""
        post = self._stage.post
        take = TakeCase(order_id=order_id, pharmacist=pharmacist, title=title)
        taken = await post.command("reviewers", "/v1/reviews/take", take)
        if not taken.ok:
            return {}
        case = await post.get("reviewers", f"/v1/reviews/{order_id}")
        if not case.ok:
            post.refused["/v1/reviews/{order_id}"][case.code] += 1
            return {}
        sheets, left = _sheets(case.body), {}
        for prescription_id, verdict in verdicts.items():
            code, reason = _REASONS[verdict]
            sheet = sheets.get(prescription_id, {})
            command = DecideCase(
                order_id=order_id,
                prescription_id=prescription_id,
                version=int(sheet.get("version", 1)),
                pharmacist=pharmacist,
                lease=UUID(str(taken.body["lease"])),
                decision=verdict.value,
                code=code,
                reason=reason,
                seen=str(sheet.get("seen", "")),
            )
            answer = await post.command("reviewers", "/v1/reviews/decide", command)
            if answer.ok and answer.body.get("wants"):
                left[prescription_id] = verdict
        return left


def _sheets(case: Mapping[str, Any]) -> dict[UUID, Mapping[str, Any]]:
    """The sheets of an opened case, as they are to be decided."""
    return {UUID(str(sheet["prescription_id"])): sheet for sheet in case.get("prescriptions", ())}
