"""Decision support over HTTP: questions before issue, and the patient's slip after approval."""

import json
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from schemas.prescription import ClinicalOrder, PrescriptionSheet
from services.catalogue import Named, catalogue
from services.catalogue.instruction import instruction
from services.catalogue.search import Search
from services.kit import telemetry
from services.kit.http import Door, JsonResponse, Problem, door
from services.review import check
from services.review.domain.state import Sheet, State, Step
from services.review.rules import pack
from services.review.store import QUERIES
from services.review.support import choices, interactions, slip

router = APIRouter()
log = telemetry.logger(__name__)

# Whoever prescribes, reviews or dispenses may ask.
Asking = Annotated[Door, Depends(door("hospital", "reviewer", "pharmacy_chain", "operator"))]
Prescribing = Annotated[Door, Depends(door("hospital", "reviewer", "operator"))]
Code = Annotated[str, Path(min_length=1, max_length=100)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
PRECHECK_BYTES_MAX = 1_000_000


class Question(BaseModel):
    """Drugs by product code, ATC code, INN or Chinese name."""

    model_config = ConfigDict(extra="forbid")

    drugs: tuple[Name, ...] = Field(min_length=2, max_length=interactions.ASKED_MAX)


@cache
def search() -> Search:
    """The index of the process's catalogue; built with the first question."""
    return Search(catalogue())


@router.post("/v1/review/precheck")
async def precheck(request: Request, gate: Prescribing) -> Response:
    """The rules' word on a submission that is not issued: one answer a prescription, no order."""
    body = await request.body()
    if len(body) > PRECHECK_BYTES_MAX:
        raise Problem(413, "too_large", f"at most {PRECHECK_BYTES_MAX} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(422, "invalid_input", "the body is no JSON", "body") from None
    if not isinstance(document, dict):
        raise Problem(422, "invalid_input", "one JSON object is wanted", "body")
    answer = check.precheck(document, await gate.clock_now())
    notice = {"zh": choices.NOTICE_ZH, "en": choices.NOTICE_EN}
    return JsonResponse({**answer, "order_id": None, "notice": notice})


@router.post("/v1/drugs/interactions")
async def together(question: Question, gate: Asking) -> Response:
    """Can these be taken together? Each two of them, with mechanism and source."""
    return JsonResponse(interactions.answered(pack(), catalogue(), question.drugs))


@router.get("/v1/drugs")
async def find(
    gate: Asking,
    q: Annotated[str, Query(min_length=1, max_length=100)],
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Response:
    """Search over the instructions: Chinese, initials of the pinyin, English."""
    hits = search().find(q, limit)
    rows = [
        {
            "generic_name": hit.generic_name,
            "inn": hit.inn,
            "form": hit.form,
            "strength": hit.strength,
            "product_codes": list(hit.product_codes),
        }
        for hit in hits
    ]
    return JsonResponse({"catalogue": catalogue().version, "drugs": rows})


@router.get("/v1/drugs/{code}")
async def show(code: Code, gate: Asking) -> Response:
    """The instruction of a product, each statement with its source."""
    item = catalogue().product(code)
    if item is None:
        raise Problem(404, "unknown_drug", "no such product in the catalogue", "code")
    sections = {
        section.name: [
            {
                "zh": said.zh,
                "en": said.en,
                "source": said.fact.source.title if said.fact else None,
                "standing": said.fact.standing if said.fact else None,
            }
            for said in section.statements
        ]
        for section in instruction(catalogue(), item)
    }
    names = ("product_code", "generic_name", "inn", "atc", "form", "strength", "origin", "sale")
    return JsonResponse({**{name: getattr(item, name) for name in names}, "sections": sections})


@router.get("/v1/diagnoses/{icd}/options")
async def options(
    icd: Annotated[str, Path(pattern=r"^[A-Z]\d{2}(\.\d{1,3})?$")], gate: Prescribing
) -> Response:
    """Choices of drug, form, dose and frequency for a diagnosis, each with its source."""
    return JsonResponse(choices.options(catalogue(), icd))


@router.get("/v1/drugs/{code}/dosing")
async def dosing(
    code: Code,
    gate: Prescribing,
    age: Annotated[Decimal | None, Query(ge=0, le=130, description="years")] = None,
    weight: Annotated[Decimal | None, Query(gt=0, le=500, description="kg")] = None,
    egfr: Annotated[Decimal | None, Query(ge=0, le=300, description="mL/min/1.73 m²")] = None,
    pregnancy: Annotated[
        Literal["no", "yes"] | int | None, Query(description="no, yes, or full weeks")
    ] = None,
    lactation: bool | None = None,
) -> Response:
    """Usual doses, maxima and cautions for this person. What is missing could not be verified."""
    found = catalogue().understood(code)
    if found is None:
        raise Problem(404, "unknown_drug", "nobody knows a drug of this name", "code")
    if isinstance(pregnancy, int) and not 0 <= pregnancy <= _WEEKS_MAX:
        raise Problem(422, "invalid_input", f"0 to {_WEEKS_MAX} weeks", "pregnancy")
    person = choices.Person(
        None if age is None else int(age * choices.MONTHS_A_YEAR),
        weight,
        egfr,
        # Not pregnant is before any week of a pregnancy.
        *_pregnancy(pregnancy),
        lactation,
    )
    answer = choices.dosing(catalogue(), found.substances, _way(found), person)
    return JsonResponse({"drug": code, "substances": [s.inn for s in found.substances], **answer})


_WEEKS_MAX = 45


def _pregnancy(given: Literal["no", "yes"] | int | None) -> tuple[Decimal | None, bool | None]:
    if isinstance(given, int):
        return Decimal(given), True
    return None, None if given is None else given == "yes"


def _way(found: Named) -> str:
    return "" if found.product is None else found.product.way_in


@router.get("/v1/slips/{order_id}")
async def guidance(
    order_id: UUID, gate: Annotated[Door, Depends(door("hospital", "reviewer"))]
) -> Response:
    """The patient's slip of an order: its approved prescriptions. Another hospital's is unknown."""
    row = await gate.pool.fetchrow(QUERIES["get_slip"], order_id)
    mine = row is not None and (
        gate.actor.kind == "reviewer" or row["tenant_id"] == gate.actor.tenant_id
    )
    if row is None or not mine:
        raise Problem(404, "unknown_order", "no such order in review", "order_id")
    state = State.model_validate_json(row["state"])
    approved = state.at(Step.APPROVED)
    if not approved or state.clinical is None:
        raise Problem(409, "not_approved", "no prescription of this order is approved", "order_id")
    sheets = await _written(gate, state, approved)
    log.info("slip_opened", order_id=str(order_id), tenant_id=str(gate.actor.tenant_id))
    body: dict[str, Any] = slip.slip(catalogue(), sheets)
    return JsonResponse({"order_id": str(order_id), **body})


async def _written(
    gate: Door, state: State, approved: tuple[Sheet, ...]
) -> list[PrescriptionSheet]:
    sealed = [sheet.correction or state.clinical for sheet in approved]
    present = [part for part in sealed if part is not None]
    async with gate.pool.acquire() as conn:
        opened = await gate.vault.open_many(conn, present, ClinicalOrder)
    return [
        written
        for sheet, order in zip(approved, opened, strict=True)
        for written in order.prescriptions
        if written.prescription_id == sheet.prescription_id
    ]
