"""Orders in review: what the rules clear, refuse, or show to a person."""

import base64
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from schemas.prescription import (
    CancelRequested,
    ClinicalOrder,
    PrescriptionCorrected,
    PrescriptionIssued,
    PrescriptionSheet,
)
from schemas.review import DecideCase, EscalateCase, GiveBackCase, HandOverCase, TakeCase
from schemas.values import CancelCause, Sealed
from services.kit.decision import Actor, Facts, Message, TimerFired
from services.kit.spec import NOW, ORDER_ID, Given, Outcome, facts_for, given
from services.prescription.making import corrected_order
from services.review import domain
from services.review.domain.acts import Beside, seen
from services.review.domain.reading import Known
from services.review.rules import Pack, chosen
from tests.unit.prescription.examples import (
    REQUEST,
    clinical,
    issued,
    line,
    line_id,
    prescription_id,
    sealed,
    sheet,
    submission,
)

ModelT = TypeVar("ModelT", bound=BaseModel)
REVIEWERS = Actor(UUID("01950000-0000-7000-8000-0000000000b1"), "reviewer", "reviewers")
OTHERS = Actor(UUID("01950000-0000-7000-8000-0000000000b2"), "reviewer", "reviewers-2")
CITY = "990100"
PHARMACIST, COLLEAGUE = "P-100", "P-200"
TITLE, SENIOR, ASSISTANT = "2.4", "2.2", "2.5"
CLEAR = ("metformin", "acarbose", "dapagliflozin")
LEASE = UUID("01950000-0000-7000-8000-0000000000d1")
DEADLINE = NOW + timedelta(hours=2)


def a_seal(value: BaseModel) -> Sealed[Any]:
    """Closed enough for a test: nothing of it can be read without opening."""
    text = base64.b64encode(value.model_dump_json().encode()).decode()
    return Sealed(key_id=UUID(int=1), nonce="AAAA", ciphertext=text)


def opened(sealed: Sealed[Any] | None, model: type[ModelT]) -> ModelT:
    """What was closed so."""
    assert sealed is not None
    return model.model_validate_json(base64.b64decode(sealed.ciphertext))


def rules() -> Pack:
    """What holds in the examples' city."""
    return chosen(CITY, "")


def clear(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A prescription that the rules pass, another drug for each number."""
    return sheet(number, line(CLEAR[number - 1]), **changes)


def banned(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A prescription that the rules refuse."""
    return sheet(number, line("warfarin"), **changes)


def doubtful(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A prescription that a person must look at."""
    fields = {
        "long_term": True,
        "long_term_reason": "慢性病稳定期",
        "patient_confirmed_long_term": True,
        **changes,
    }
    return sheet(number, line("amlodipine", days=56), **fields)


def an_issue(*sheets: dict[str, Any]) -> tuple[PrescriptionIssued, Facts]:
    """The fact and what lookup opens of it."""
    command = submission(*sheets)
    return issued(command), facts_for(found=Known(clinical(command), seal=a_seal))


class AtDesk(Outcome):
    """A page that sends back the hash of what it shows, where a test says nothing else."""

    def and_when(
        self, message: Message, *, now: datetime = NOW, facts: Facts | None = None
    ) -> "AtDesk":
        """Decide a further message over what lies there."""
        if isinstance(message, DecideCase | EscalateCase) and not message.seen:
            sheet = self.state.sheet(message.prescription_id)
            if sheet is not None:
                message = message.model_copy(update={"seen": seen(sheet)})
        return at_desk(super().and_when(message, now=now, facts=facts))


def at_desk(outcome: Outcome) -> AtDesk:
    """The same, as a page shows it."""
    return AtDesk(outcome.domain, outcome.decision, outcome.state)


def in_review(*sheets: dict[str, Any]) -> AtDesk:
    """After the rules have read these prescriptions."""
    event, facts = an_issue(*sheets)
    return at_desk(given(domain).when(event, facts=facts))


def a_correction(
    body: dict[str, Any], before: tuple[dict[str, Any], ...], version: int = 2
) -> tuple[PrescriptionCorrected, Facts]:
    """The fact that a hospital's correction becomes."""
    command = submission(*before)
    fixed = PrescriptionSheet.model_validate({**body, "version": version})
    ids = tuple(line_id(50 + n) for n in range(len(fixed.lines)))
    event = PrescriptionCorrected(
        order_id=ORDER_ID,
        prescription_id=fixed.prescription_id,
        version=version,
        order=corrected_order(issued(command).order, fixed, ids),
        clinical=sealed(5),
    )
    known = clinical(command)
    sheets = tuple(
        fixed if old.prescription_id == fixed.prescription_id else old
        for old in known.prescriptions
    )
    written = ClinicalOrder(patient=known.patient, prescriptions=sheets)
    return event, facts_for(found=Known(written, seal=a_seal))


def take(pharmacist: str = PHARMACIST, title: str = TITLE) -> TakeCase:
    """Take the case in hand."""
    return TakeCase(order_id=ORDER_ID, pharmacist=pharmacist, title=title)


def escalate(to: str, number: int = 1, **changes: Any) -> EscalateCase:
    """Leave one prescription to somebody else."""
    fields = {
        "order_id": ORDER_ID,
        "prescription_id": prescription_id(number),
        "version": 1,
        "pharmacist": PHARMACIST,
        "lease": LEASE,
        "to": to,
        "reason": "剂量不常见",
    }
    return EscalateCase.model_validate({**fields, **changes})


def give_back(lease: UUID = LEASE, pharmacist: str = PHARMACIST) -> GiveBackCase:
    """Lay the case back."""
    return GiveBackCase(order_id=ORDER_ID, pharmacist=pharmacist, lease=lease)


def hand_over(to: str = COLLEAGUE, **changes: Any) -> HandOverCase:
    """Leave the case to a colleague."""
    fields = {"order_id": ORDER_ID, "pharmacist": PHARMACIST, "lease": LEASE, "to_title": TITLE}
    return HandOverCase.model_validate({**fields, "to": to, **changes})


def desk(actor: Actor = REVIEWERS, lease: UUID = LEASE) -> Facts:
    """What the shell hands in with a command from the desk; a fresh lease has the first id."""
    return facts_for(ids=[lease] * 8, actor=actor, found=Beside(seal=a_seal))


def choice(decision: str, number: int = 1, **changes: Any) -> DecideCase:
    """A decision on one prescription."""
    return DecideCase.model_validate(
        {
            "order_id": ORDER_ID,
            "prescription_id": prescription_id(number),
            "version": 1,
            "pharmacist": PHARMACIST,
            "lease": LEASE,
            "code": "" if decision == "approve" else "2-5",
            **changes,
            "decision": decision,
        }
    )


def cancel(cause: CancelCause = CancelCause.PATIENT, request: UUID = REQUEST) -> CancelRequested:
    """The wish of patient, prescriber or clock."""
    return CancelRequested(order_id=ORDER_ID, request_id=request, cause=cause)


def deadline(number: int = 1) -> TimerFired:
    """No correction came."""
    return TimerFired(domain.CORRECTION, str(prescription_id(number)), DEADLINE)


def after(outcome: Outcome) -> Given:
    """Go on from the state after an outcome."""
    return Given(domain, outcome.state)


def taken(*sheets: dict[str, Any]) -> AtDesk:
    """In review, and a pharmacist has the case in hand."""
    return in_review(*sheets).and_when(take(), facts=desk())


def returned(*sheets: dict[str, Any]) -> AtDesk:
    """In review, and the first prescription went back to the doctor."""
    return taken(*sheets).and_when(choice("return"), facts=desk())
