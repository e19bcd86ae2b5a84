"""The hospitals' application: submits, cancels, carries the patient's answers, corrects."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from schemas import dispatch
from schemas.claim import AnswerAsk
from services.sandbox.fates import NEW_VOUCHER, OTHER_TIME
from services.sandbox.scripts import HOSPITALS, Script, voucher_token
from services.sandbox.stage import Entry, Stage

SUBMIT, CANCEL = "/v1/prescriptions", "/v1/prescriptions/cancel"
ON_THE_WAY = "/v1/services/dispatch/asks/answer"
CORRECT, ANSWER = "/v1/prescriptions/correct", "/v1/asks/answer"


class Hospital:
    """All hospitals of a world; each order goes under the token of its own."""

    tenants = HOSPITALS

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.submitted = 0
        self.not_taken: dict[str, str] = {}
        self.closed: dict[UUID, str] = {}

    def expect(self, script: Script, at: datetime | None = None) -> None:
        """Plan an order's submission, at the moment it was placed or at another."""

        async def submit() -> None:
            await self._submit(script)

        self._stage.plan(f"submit/{script.number}", at or script.spec.placed_at, 0, submit)

    def hear(self, entry: Entry) -> None:
        """One fact about an order of ours."""
        match entry.type:
            case "prescription.PrescriptionIssued":
                self._issued(entry.subject, entry.data["order"]["order_number"])
            case "review.ReviewReturned":
                self._with_script(entry, self._returned)
            case "claim.PatientAsked":
                self._with_script(entry, self._asked)
            case "dispatch.PatientAsked":
                self._with_script(entry, self._asked_on_the_way)
            case "claim.PatientAnswered" | "dispatch.PatientAnswered":
                self._stage.agenda.drop(f"answer/{entry.data['ask_id']}")
            case "prescription.PrescriptionCorrected":
                done = entry.data["prescription_id"], int(entry.data["version"]) - 1
                self._stage.agenda.drop(f"correct/{done[0]}/{done[1]}")
            case "prescription.CancelRequested":
                number = self._stage.book.numbers.get(entry.subject)
                if number is not None and entry.data["cause"] != "expiry":
                    self._stage.agenda.drop(f"cancel/{number}")
            case "claim.OrderClosed":
                self.closed[entry.subject] = entry.data["outcome"]
                self._stage.agenda.drop_about(("hospital", entry.subject))

    def _issued(self, order_id: UUID, number: str) -> None:
        self._stage.book.learn(order_id, number)
        script = self._stage.book.script_of(number)
        at = script.cancel_at if script else None
        if script is None or at is None:
            return

        async def cancel() -> None:
            command = script.cancel(order_id, at)
            await self._stage.post.command(script.hospital, CANCEL, command)

        # The patient thinks better of it, whatever has become of the order by then.
        self._stage.agenda.plan(at, f"cancel/{number}", cancel)

    def _with_script(self, entry: Entry, act: Callable[[Entry, Script], None]) -> None:
        def known(number: str) -> None:
            script = self._stage.book.script_of(number)
            if script is not None:
                act(entry, script)

        self._stage.book.when_known(entry.subject, known)

    async def _submit(self, script: Script) -> None:
        answer = await self._stage.post.command(
            script.hospital, SUBMIT, script.submit, idempotency_key=script.number
        )
        self.submitted += 1
        if not answer.ok:
            self.not_taken[script.number] = f"{answer.code}: {answer.body.get('detail', '')}"
            return
        self._stage.book.learn(UUID(str(answer.body["order_id"])), script.number)

    def _returned(self, entry: Entry, script: Script) -> None:
        prescription_id, version = UUID(entry.data["prescription_id"]), int(entry.data["version"])
        sheets = [sheet.prescription_id for sheet in script.submit.prescriptions]
        after = self._stage.fates.correction(script.number, sheets.index(prescription_id), version)
        if after is None:
            return

        async def correct() -> None:
            now = self._stage.clock.now()
            command = script.correction(entry.subject, prescription_id, version + 1, now)
            await self._stage.post.command(script.hospital, CORRECT, command)

        label = f"correct/{prescription_id}/{version}"
        self._stage.plan(label, entry.at, after, correct, about=("hospital", entry.subject))

    def _asked(self, entry: Entry, script: Script) -> None:
        kind, options = entry.data["kind"], entry.data["options"]
        fate = self._stage.fates.patient_choice(script.number, kind, options)
        if fate is None:
            return
        choice, after = fate
        renews = choice == NEW_VOUCHER
        nth = int(entry.data["facts"]["nth"]) if renews else 0
        command = AnswerAsk(
            order_id=entry.subject,
            ask_id=UUID(entry.data["ask_id"]),
            answer=choice,
            voucher_token=voucher_token(script.number, nth) if renews else None,
        )

        async def answer() -> None:
            await self._stage.post.command(script.hospital, ANSWER, command)

        label = f"answer/{command.ask_id}"
        self._stage.plan(label, entry.at, after, answer, about=("hospital", entry.subject))

    def _asked_on_the_way(self, entry: Entry, script: Script) -> None:
        """A later promise is put up with; whether packs that appeared are still wanted is drawn."""
        fate = self._said(script.number, entry.data["kind"], entry.data["options"])
        if fate is None:
            return
        choice, after = fate
        command = dispatch.AnswerAsk(
            order_id=entry.subject, ask_id=UUID(entry.data["ask_id"]), answer=choice
        )

        async def answer() -> None:
            await self._stage.post.command(script.hospital, ON_THE_WAY, command)

        label = f"answer/{command.ask_id}"
        self._stage.plan(label, entry.at, after, answer, about=("hospital", entry.subject))

    def _said(self, number: str, kind: str, options: Sequence[str]) -> tuple[str, float] | None:
        if kind == OTHER_TIME:
            return self._stage.fates.other_time(number, options)
        fate = self._stage.fates.patient_answer(number, kind)
        if fate is None:
            return None
        yes, after_s = fate
        return options[0 if yes or kind == "later_promise" else -1], after_s
