"""What people decide on money that is refused to come home."""

from uuid import UUID

from schemas.claim import DecideDispute, DisputeDecision
from services.claim.domain.answers import DONE
from services.claim.domain.notes import DisputeDecided, WriteOffProposed
from services.claim.domain.steps import carry_on
from services.claim.domain.work import Work
from services.kit.decision import Decision, invalid


def decide_home(work: Work, message: DecideDispute, by: UUID) -> Decision | None:
    """None when it is done, else the refusal. Two persons take the far side's word for it."""
    dispute = work.state.dispute
    assert dispute is not None
    if message.decision is DisputeDecision.DECLINE:
        return invalid("too_late", "the money has to come home: take theirs or ask again")
    if message.decision is DisputeDecision.TAKE_THEIRS:
        if refusal := _one_of_two(work, message):
            return refusal
        if not dispute.proposed_by:
            work.record(WriteOffProposed(person=message.person or "", reason=message.reason))
            return None
    work.close_dispute()
    work.wake()
    work.record(DisputeDecided(decision=message.decision, by=by, reason=message.reason))
    if message.decision is DisputeDecision.TAKE_THEIRS:
        work.cause = dispute.call_ref
        DONE[dispute.kind](work, {})
    else:
        carry_on(work)
    return None


def _one_of_two(work: Work, message: DecideDispute) -> Decision | None:
    dispute = work.state.dispute
    assert dispute is not None
    if not message.person:
        return invalid("missing", "who says so, by staff number", field="person", status=422)
    if message.person == dispute.proposed_by:
        return invalid("second_person", "somebody else has to say so as well", field="person")
    if work.state.call is not None:
        return invalid("in_flight", "it is asked for at this moment; say so again in a minute")
    return None
