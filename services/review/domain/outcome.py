"""When all prescriptions are decided there is exactly one outcome."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from schemas.message import Event
from schemas.review import Rejected, ReviewAct, ReviewApproved, ReviewRejected
from services.kit.decision import Decision, DropTimer, Note, SetTimer, applied
from services.review.domain.state import Sheet, State, Step, evolve

CORRECTION = "correction"


def settle(
    state: State,
    *facts: Event | Note,
    timers: Sequence[SetTimer | DropTimer] = (),
    answer: Mapping[str, Any] | None = None,
) -> Decision:
    """These facts, and the outcome when nothing is left to decide."""
    after: State = reduce(evolve, facts, state)
    if not after.at(Step.PERSON, Step.RETURNED):
        facts = (*facts, _outcome(after))
    return applied(*facts, timers=timers, answer=answer)


def _outcome(state: State) -> ReviewApproved | ReviewRejected:
    if state.order is None:
        raise TypeError("an outcome before the order")
    approved = state.at(Step.APPROVED)
    rejected = tuple(_rejected(sheet) for sheet in state.at(Step.REJECTED))
    if not approved:
        return ReviewRejected(
            order_id=state.order.order_id,
            rejected=rejected,
            rule_pack=state.rule_pack,
            reviewer=state.reviewer,
            acts=_acts(state),
        )
    passed = {sheet.prescription_id for sheet in approved}
    lines = tuple(line for line in state.order.lines if line.prescription_id in passed)
    expires_at = min(sheet.ends_at for sheet in approved)
    return ReviewApproved(
        order_id=state.order.order_id,
        order=state.order.model_copy(update={"lines": lines, "expires_at": expires_at}),
        approved=tuple(sheet.prescription_id for sheet in approved),
        rejected=rejected,
        rule_pack=state.rule_pack,
        reviewer=state.reviewer,
        acts=_acts(state),
    )


def _acts(state: State) -> tuple[ReviewAct, ...]:
    """All that pharmacists put their names to, without what stays at the desk."""
    signed = (act for sheet in state.sheets for act in sheet.acts)
    return tuple(ReviewAct.model_validate(act.model_dump()) for act in signed)


def _rejected(sheet: Sheet) -> Rejected:
    return Rejected(prescription_id=sheet.prescription_id, reasons=sheet.reasons)
