"""A voucher that is too old, used or another person's: the patient brings another, or decides."""

import pytest

from schemas.claim import AnswerAsk, Basis, ClaimAuthorised, ClaimDeclined, PatientAsked
from services.claim.book import book
from services.claim.domain.checking import Known
from services.claim.domain.vouchers import RENEWABLE, VOUCHERS_MAX
from services.kit.decision import Decision, Verdict
from tests.unit.claim import story as s
from tests.unit.claim.story import Story

TOKEN = "EV-H-1-1"
CHOICES = ("new_voucher", "self_pay", "cancel")


def refused(code: str = "token_expired", *, self_pay: bool | None = None) -> Story:
    """The payer does not take the voucher that came with the order."""
    return Story().apply(s.approved(self_pay=self_pay)).refused("eligibility", code)


def asked(story: Story) -> PatientAsked:
    found: PatientAsked = story.of(PatientAsked)[-1]
    assert found.kind == "voucher"
    return found


def answer(story: Story, choice: str = "new_voucher", token: str | None = TOKEN) -> Decision:
    assert story.state.ask is not None
    message = AnswerAsk(
        order_id=asked(story).order_id,
        ask_id=story.state.ask.ask_id,
        answer=choice,
        voucher_token=token,
    )
    return story.hear(message, s.HOSPITAL_ACTOR)


@pytest.mark.parametrize("code", sorted(RENEWABLE))
def test_the_patient_is_told_why_and_asked_for_another(code: str) -> None:
    story = refused(code)
    assert (asked(story).options, asked(story).default) == (CHOICES, "cancel")
    assert asked(story).facts == {"code": code, "nth": 1}
    assert not story.of(ClaimDeclined)


def test_with_a_new_token_the_order_goes_on_insured() -> None:
    story = refused().renew()
    [call] = story.calls
    assert (call.kind, call.request["voucher"]["ciphertext"]) == (
        "eligibility",
        s.RENEWED.ciphertext,
    )
    story.answer("eligibility")
    [authorised] = story.of(ClaimAuthorised)
    assert (authorised.basis, authorised.order.voucher) == (Basis.INSURED, s.RENEWED)
    story.apply(s.assigned())
    assert story.calls[0].request["voucher"]["ciphertext"] == s.RENEWED.ciphertext


@pytest.mark.parametrize("kind", ["presettle", "settle"])
def test_a_voucher_that_grew_old_on_the_way_is_replaced_where_it_was_refused(kind: str) -> None:
    story = s.authorised().apply(s.assigned()) if kind == "presettle" else s.priced()
    if kind == "settle":
        story.apply(s.sealed())
    story.refused(kind, "token_expired")
    assert asked(story).facts == {"code": "token_expired", "nth": 1, "total_fen": s.TOTAL_FEN}
    # Who said no to self-payment is asked after all once the parcel is sealed, and only then
    assert ("self_pay" in asked(story).options) is (kind == "settle")
    story.renew()
    assert story.calls[0].request["voucher"]["ciphertext"] == s.RENEWED.ciphertext
    story.answer(kind)
    assert story.state.attempt is not None
    assert story.state.attempt.presettlement_id == "P-1"


@pytest.mark.parametrize(
    ("consent", "end"),
    [(True, "ClaimAuthorised"), (None, "OrderClosed"), (False, "OrderClosed")],
)
def test_silence_means_what_was_agreed_at_submission(consent: bool | None, end: str) -> None:
    story = refused(self_pay=consent).fire("ask")
    assert story.published()[-1] == end
    assert story.state.basis == ("self_paid" if consent else "insured")


def test_silence_accepts_no_price_above_the_accepted_share() -> None:
    story = s.authorised(self_pay=True, share_max_fen=9_000).apply(s.assigned())
    story.refused("presettle", "token_expired").fire("ask")
    last = story.of(PatientAsked)[-1]
    assert (last.kind, last.default) == ("share_above_consent", "decline")
    assert last.facts == {"share_fen": s.TOTAL_FEN, "share_max_fen": 9_000}
    assert story.calls == []
    story.fire("ask")
    assert [fact.reason for fact in story.of(ClaimDeclined)] == ["share_above_consent"]
    # Who says it has seen the whole price, and is asked nothing more
    story = s.authorised(self_pay=True, share_max_fen=9_000).apply(s.assigned())
    story.refused("presettle", "token_expired").ask("self_pay")
    assert [call.kind for call in story.calls] == ["hold"]


def test_who_pays_goes_on_alone_and_who_cancels_ends() -> None:
    story = refused()
    assert answer(story, "self_pay", None).verdict is Verdict.APPLIED
    assert story.of(ClaimAuthorised)[0].basis is Basis.SELF_PAID
    story = refused()
    assert answer(story, "cancel", None).verdict is Verdict.APPLIED
    assert [fact.reason for fact in story.of(ClaimDeclined)] == ["voucher_refused"]


@pytest.mark.parametrize(
    ("choice", "token", "found", "code"),
    [
        ("new_voucher", None, Known(book()), "missing"),
        ("cancel", TOKEN, Known(book(), voucher=s.RENEWED), "not_expected"),
        ("new_voucher", TOKEN, Known(book()), "erased"),
        ("new_voucher", TOKEN, None, "erased"),
    ],
)
def test_a_token_comes_with_its_answer_and_for_somebody_who_is_known(
    choice: str, token: str | None, found: Known | None, code: str
) -> None:
    story = refused()
    story.found = found
    decision = answer(story, choice, token)
    assert (decision.verdict, decision.code) == (Verdict.INVALID, code)
    assert story.state.ask is not None


@pytest.mark.parametrize(("consent", "kind"), [(True, ""), (None, "self_pay"), (False, "")])
def test_after_so_many_the_order_goes_on_without_the_payer(consent: bool | None, kind: str) -> None:
    story = refused(self_pay=consent)
    for _ in range(VOUCHERS_MAX):
        story.renew().refused("eligibility", "token_used")
    assert len([fact for fact in story.of(PatientAsked) if fact.kind == "voucher"]) == VOUCHERS_MAX
    assert (story.state.ask.kind if story.state.ask else "") == kind
    assert bool(story.of(ClaimAuthorised)) is (consent is True)
    assert bool(story.of(ClaimDeclined)) is (consent is False)


def test_what_is_left_of_an_erased_person_is_no_voucher() -> None:
    story = refused("voucher_unreadable")
    assert [fact.kind for fact in story.of(PatientAsked)] == ["self_pay"]
