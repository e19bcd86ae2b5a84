"""When the payer does not pay: the patient does, chooses, or the order ends."""

from schemas.claim import ClaimDeclined, DeclineReason
from services.claim.domain.notes import Patience, Questioned, SelfPaid
from services.claim.domain.state import Phase, Step
from services.claim.domain.steps import authorise, carry_on, interrupt
from services.claim.domain.work import PATIENCE, PAUSE_SILENT, PAYER_DOWN_ASK, SELF_PAY_ASK, Work


def decline(work: Work, reason: DeclineReason, detail: str = "") -> None:
    """Claim ends the order: later services let go at once, the books close after the money."""
    number = work.state.attempt.number if work.state.attempt else 0
    interrupt(
        work,
        ClaimDeclined(
            order_id=work.given.order_id, attempt=number, reason=reason, detail=detail[:200]
        ),
    )


def without_payer(work: Work, reason: DeclineReason, detail: str) -> None:
    """The payer will not pay: the patient does, is asked, or the order ends for `reason`.

    Whose parcel is sealed already is asked even after a no: nobody knew then what it costs.
    """
    attempt = work.state.attempt
    is_sealed = attempt is not None and attempt.step is Step.SETTLING
    match work.case.self_pay:
        case True:
            work.record(SelfPaid())
            go_on_self_paid(work)
        case False if not is_sealed:
            decline(work, reason, detail)
        case _:
            refused = reason if is_sealed else DeclineReason.NO_CONSENT
            work.record(Questioned(reason=refused))
            work.ask(SELF_PAY_ASK, ("yes", "no"), price_known(work))


def payer_silent(work: Work, kind: str) -> None:
    """The payer does not answer: `kind` is tried for a while, then the patient chooses.

    In the hours in which the payer itself said it would be away nobody is asked.
    """
    now, until = work.now, work.state.patience or work.now + PATIENCE
    known, back = work.known, None
    if known is not None:
        back = known.back_from_batch(work.case.payer_area, now)
    if back is not None:
        work.record(Patience(until=max(until, back + PATIENCE)))
        work.rest(kind, least=back - now)
        return
    if until != work.state.patience:
        work.record(Patience(until=until))
    if now < until:
        work.rest(kind, PAUSE_SILENT)
        return
    attempt = work.state.attempt
    in_doubt = attempt is not None and attempt.doubt is not None
    work.record(Questioned(reason=DeclineReason.PAYER_UNAVAILABLE))
    options = ("wait", "cancel") if in_doubt else ("wait", "self_pay", "cancel")
    agreed = work.case.self_pay is True and not in_doubt
    default = "self_pay" if agreed else "cancel"
    work.ask(PAYER_DOWN_ASK, options, price_known(work), default)


def price_known(work: Work) -> dict[str, int]:
    """What the patient is told of the price, once there is one."""
    attempt = work.state.attempt
    return {"total_fen": attempt.total_fen} if attempt else {}


def go_on_self_paid(work: Work) -> None:
    """Where the order stood when the payer dropped out."""
    if work.state.phase is Phase.AUTHORISING:
        authorise(work)
    else:
        carry_on(work)
