"""A voucher that the payer refuses: its holder is asked for another, a few times."""

from schemas.claim import AnswerAsk, DeclineReason
from services.claim.domain.choices import price_known, without_payer
from services.claim.domain.notes import Questioned, VoucherRefused, VoucherRenewed
from services.claim.domain.state import Step
from services.claim.domain.steps import carry_on
from services.claim.domain.work import Work
from services.kit.decision import Decision, invalid

VOUCHER_ASK = "voucher"
NEW_VOUCHER, SELF_PAY, CANCEL = "new_voucher", "self_pay", "cancel"
# Too old, never heard of, presented before, or somebody else's: another token may be good.
RENEWABLE = frozenset({"token_expired", "token_unknown", "token_used", "token_of_another"})
BAD_VOUCHER = RENEWABLE | {"voucher_unreadable"}
VOUCHERS_MAX = 3


def refuse_voucher(work: Work, code: str) -> None:
    """Another token, the whole price or the end; silence means what was agreed at submission."""
    nth, reason = work.state.vouchers + 1, DeclineReason.VOUCHER_REFUSED
    if code not in RENEWABLE or nth > VOUCHERS_MAX:
        without_payer(work, reason, code)
        return
    attempt, agreed = work.state.attempt, work.case.self_pay
    is_sealed = attempt is not None and attempt.step is Step.SETTLING
    # Whose parcel is sealed already is asked even after a no: nobody knew then what it costs.
    may_pay = agreed is not False or is_sealed
    options = (NEW_VOUCHER, SELF_PAY, CANCEL) if may_pay else (NEW_VOUCHER, CANCEL)
    told: dict[str, str | int] = {"code": code, "nth": nth, **price_known(work)}
    work.record(VoucherRefused(code=code), Questioned(reason=reason))
    work.ask(VOUCHER_ASK, options, told, SELF_PAY if agreed else CANCEL)


def check_token(message: AnswerAsk, work: Work) -> Decision | None:
    """None when the token fits the answer, else the refusal."""
    if message.answer != NEW_VOUCHER:
        if message.voucher_token is None:
            return None
        detail = "a token comes with the answer new_voucher alone"
        return invalid("not_expected", detail, field="voucher_token", status=422)
    if message.voucher_token is None:
        return invalid("missing", "the new token", field="voucher_token", status=422)
    if work.known is None or work.known.voucher is None:
        return invalid("erased", "nobody knows any more whose voucher it would be")
    return None


def take_voucher(work: Work) -> None:
    """The order goes on where the old one was refused."""
    assert work.known is not None
    assert work.known.voucher is not None
    work.record(VoucherRenewed(voucher=work.known.voucher))
    carry_on(work)
