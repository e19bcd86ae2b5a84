"""What a submission needs from outside: whether it is new, sealed parts, fresh line ids."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from schemas.prescription import (
    ClinicalOrder,
    ClinicalPatient,
    CorrectPrescription,
    Patient,
    PatientFacts,
    PrescriptionSheet,
    SubmitOrder,
)
from schemas.values import Address, Outcome, Purpose, Sealed, Voucher
from services.kit import ids
from services.kit.db import Connection
from services.kit.queries import load
from services.kit.service import Incoming, LookupContext, ProjectContext
from services.kit.vault import Vault
from services.prescription.domain import State
from services.prescription.form import order_flaw, sheet_flaw
from services.prescription.making import Prepared, PreparedCorrection

QUERIES = load(__package__)

Number = tuple[UUID, str]
Used = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Submission:
    """One submission of a hospital whose form is right."""

    item: Incoming
    command: SubmitOrder
    tenant_id: UUID
    body_hash: str

    @property
    def number(self) -> Number:
        """What must be unique of the order."""
        return self.tenant_id, self.command.order_number

    @property
    def used(self) -> tuple[Used, ...]:
        """What must be unique of its prescriptions."""
        return tuple((self.tenant_id, s.prescription_id) for s in self.command.prescriptions)


@dataclass(slots=True)
class Register:
    """Who used which number and which prescription; grows while a batch is read."""

    numbers: dict[Number, tuple[UUID, str]] = field(default_factory=dict)
    used: dict[Used, UUID] = field(default_factory=dict)
    # Orders that found no pharmacy: what they used may be used by who keeps their place.
    unfilled: frozenset[UUID] = frozenset()
    fresh: list[Submission] = field(default_factory=list)

    def enter(self, submission: Submission) -> Prepared | None:
        """None for a new submission, which is entered; else what stands in its way."""
        earlier = self.numbers.get(submission.number)
        if earlier is not None:
            order_id, body_hash = earlier
            same = body_hash == submission.body_hash
            return Prepared(earlier_order=order_id, earlier_same=same)
        taken = next((used for used in submission.used if self._used(used, submission)), None)
        if taken is not None:
            return Prepared(used_prescription=taken[1])
        self.numbers[submission.number] = submission.item.key, submission.body_hash
        self.used |= dict.fromkeys(submission.used, submission.item.key)
        self.fresh.append(submission)
        return None

    def _used(self, used: Used, submission: Submission) -> bool:
        """By another order than the one whose place in the line this one keeps."""
        earlier = self.used.get(used)
        kept = earlier == submission.command.registration_id and earlier in self.unfilled
        return earlier is not None and not kept


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """Prepare submissions in bulk, and the rare corrections one by one."""
    submissions = [
        submission
        for item in context.messages
        if (submission := _submission(context.vault, item)) is not None
        and order_flaw(submission.command, context.now) is None
    ]
    found: dict[UUID, Any] = {}
    if submissions:
        found |= await _submissions(context, submissions)
    return found | await _corrections(context)


async def project(context: ProjectContext) -> None:
    """Enter what was issued; the locks of `lookup` still stand."""
    issued = [
        submission
        for change in context.changes
        if (submission := _submission(context.vault, change.message)) is not None
    ]
    if not issued:
        return
    await context.conn.execute(
        QUERIES["add_submissions"],
        [submission.tenant_id for submission in issued],
        [submission.command.order_number for submission in issued],
        [submission.body_hash for submission in issued],
        [submission.item.key for submission in issued],
        context.now,
    )
    used = [(*used, submission.item.key) for submission in issued for used in submission.used]
    await context.conn.execute(
        QUERIES["add_used"], *(list(column) for column in zip(*used, strict=True))
    )


def _submission(vault: Vault, item: Incoming) -> Submission | None:
    command, actor = item.message, item.actor
    if not isinstance(command, SubmitOrder) or actor is None or actor.kind != "hospital":
        return None
    return Submission(item, command, actor.tenant_id, _digest(vault, command))


async def _submissions(
    context: LookupContext, submissions: Sequence[Submission]
) -> dict[UUID, Prepared]:
    register = await _read_register(context.conn, submissions)
    found = {s.item.id: known for s in submissions if (known := register.enter(s)) is not None}
    fresh = register.fresh
    if not fresh:
        return found
    sealed = await context.vault.seal_batch(
        context.conn,
        {
            (submission.item.key, purpose): value
            for submission in fresh
            for purpose, value in _personal(context.vault, submission.command).items()
        },
    )
    return found | {s.item.id: _prepared(context.vault, s, sealed) for s in fresh}


async def _read_register(conn: Connection, submissions: Sequence[Submission]) -> Register:
    numbers = [submission.number for submission in submissions]
    used = [used for submission in submissions for used in submission.used]
    await conn.execute(QUERIES["lock_names"], _locks([*numbers, *used]))
    register = Register()
    for row in await conn.fetch(QUERIES["find_submissions"], *_columns(numbers)):
        place = row["tenant_id"], row["order_number"]
        register.numbers[place] = row["order_id"], row["body_hash"]
    for row in await conn.fetch(QUERIES["find_used"], *_columns(used)):
        register.used[row["tenant_id"], row["prescription_id"]] = row["order_id"]
    kept = sorted({k for s in submissions if (k := s.command.registration_id) is not None})
    if kept:
        rows = await conn.fetch(QUERIES["find_unfilled"], kept, Outcome.EXHAUSTED.value)
        register.unfilled = frozenset(row["order_id"] for row in rows)
    return register


def _locks(names: Iterable[tuple[UUID, object]]) -> list[int]:
    """Sorted, so that two batches wait for each other in one direction only."""
    texts = {f"{tenant_id}/{name}" for tenant_id, name in names}
    digests = (hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return sorted(int.from_bytes(digest, signed=True) for digest in digests)


def _columns(pairs: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def _personal(vault: Vault, command: SubmitOrder) -> dict[Purpose, BaseModel]:
    """Everything that names or describes the person, apart by who may open it."""
    patient, place, voucher = command.patient, command.delivery, command.voucher
    address = Address(
        name=patient.name,
        phone=patient.phone,
        address=place.address,
        point=place.point,
    )
    return {
        Purpose.PAYER: Voucher(
            token=voucher.token if voucher else "",
            person_name=patient.name,
            certificate_number=patient.certificate_number,
        ),
        Purpose.LABEL: address,
        Purpose.COURIER: address,
        Purpose.REVIEW: ClinicalOrder(
            patient=_clinical(vault, patient), prescriptions=command.prescriptions
        ),
    }


def _clinical(vault: Vault, patient: Patient) -> ClinicalPatient:
    return ClinicalPatient(
        birth_date=patient.birth_date,
        sex=patient.sex,
        guardian_present=patient.guardian_present,
        specialist_present=patient.specialist_present,
        allergies=patient.allergies,
        **{name: getattr(patient, name) for name in PatientFacts.model_fields},
        person_ref=vault.blind(f"person/{patient.certificate_number.upper()}"),
    )


def _prepared(
    vault: Vault, submission: Submission, sealed: Mapping[tuple[UUID, Purpose], Sealed[Any]]
) -> Prepared:
    key, sheets = submission.item.key, submission.command.prescriptions
    return Prepared(
        voucher=sealed[key, Purpose.PAYER],
        label=sealed[key, Purpose.LABEL],
        courier=sealed[key, Purpose.COURIER],
        clinical=sealed[key, Purpose.REVIEW],
        line_ids=tuple(ids.new_id() for sheet in sheets for _ in sheet.lines),
        digests=tuple(_digest(vault, sheet) for sheet in sheets),
    )


async def _corrections(context: LookupContext) -> dict[UUID, PreparedCorrection]:
    latest: dict[UUID, ClinicalOrder] = {}
    found: dict[UUID, PreparedCorrection] = {}
    for item in context.messages:
        command, state = item.message, context.states[item.key]
        if not isinstance(command, CorrectPrescription) or not _may_correct(item, state):
            continue
        if item.key not in latest:
            assert state.clinical is not None
            latest[item.key] = await context.vault.open(context.conn, state.clinical, ClinicalOrder)
        sheet = command.prescription
        clinical = _with(latest[item.key], sheet)
        # A refused correction must not slip into the next one of the same batch.
        if _wanted(state, sheet) and sheet_flaw(sheet, context.now, "") is None:
            latest[item.key] = clinical
        found[item.id] = PreparedCorrection(
            clinical=await context.vault.seal(context.conn, item.key, Purpose.REVIEW, clinical),
            line_ids=tuple(ids.new_id() for _ in sheet.lines),
            digest=_digest(context.vault, sheet),
        )
    return found


def _may_correct(item: Incoming, state: State) -> bool:
    actor, order = item.actor, state.order
    return (
        state.clinical is not None
        and actor is not None
        and order is not None
        and actor.tenant_id == order.hospital_id
    )


def _wanted(state: State, sheet: PrescriptionSheet) -> bool:
    known = {mark.prescription_id: mark.version for mark in state.sheets}
    return sheet.version > known.get(sheet.prescription_id, sheet.version)


def _with(clinical: ClinicalOrder, sheet: PrescriptionSheet) -> ClinicalOrder:
    sheets = tuple(
        sheet if old.prescription_id == sheet.prescription_id else old
        for old in clinical.prescriptions
    )
    return ClinicalOrder(patient=clinical.patient, prescriptions=sheets)


def _digest(vault: Vault, value: BaseModel) -> str:
    return vault.blind(value.model_dump_json())
