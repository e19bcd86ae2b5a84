"""A payer that does not answer: tried for a while, then the patient waits, pays or cancels."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from schemas.claim import ClaimAuthorised, ClaimDeclined, ClaimPriced, DeclineReason, PatientAsked
from schemas.values import CHINA, Outcome
from services.claim.book import book
from services.claim.domain.checking import Batch, Known
from services.claim.domain.work import PATIENCE, PATIENCE_CHOSEN
from services.kit.spec import NOW
from services.network import packs
from tests.unit.claim import story as s
from tests.unit.claim.story import Story


def outlast(story: Story, kind: str) -> Story:
    """The payer stays silent until the patient is asked."""
    story.unknown(kind)
    while story.state.ask is None:
        story.fire("again").unknown(kind)
    return story


def asked(story: Story) -> PatientAsked:
    found: PatientAsked = story.of(PatientAsked)[-1]
    assert found.kind == "payer_down"
    return found


def test_a_payer_that_is_back_soon_is_asked_again_and_the_patient_never() -> None:
    story = Story().apply(s.approved()).unknown("eligibility").fire("again").answer("eligibility")
    story.apply(s.assigned()).unknown("presettle").fire("again").answer("presettle")
    assert story.answer("hold").published() == ["ClaimAuthorised", "ClaimPriced"]
    assert story.state.patience is None


@pytest.mark.parametrize("kind", ["eligibility", "presettle"])
def test_after_a_set_time_the_patient_chooses(kind: str) -> None:
    story = Story().apply(s.approved())
    if kind == "presettle":
        story.answer("eligibility").apply(s.assigned())
    outlast(story, kind)
    assert story.now - NOW >= PATIENCE
    assert asked(story).options == ("wait", "self_pay", "cancel")
    assert asked(story).facts == ({} if kind == "eligibility" else {"total_fen": s.TOTAL_FEN})


def test_who_waits_is_asked_again_after_a_longer_while() -> None:
    story = outlast(Story().apply(s.approved()), "eligibility").ask("wait")
    waited = story.now
    outlast(story, "eligibility")
    assert story.now - waited >= PATIENCE_CHOSEN
    story.ask("wait").answer("eligibility")
    assert story.published()[-1] == "ClaimAuthorised"


def test_each_pharmacy_is_priced_with_patience_of_its_own() -> None:
    # Given a pharmacy that gave back while the payer was silent
    story = s.authorised().apply(s.assigned()).unknown("presettle").apply(s.failed())
    # When the payer is silent again an hour later, for the next one
    story.now += timedelta(hours=1)
    began = story.now
    outlast(story.apply(s.assigned(2)), "presettle")
    # Then it is tried for as long before anybody is asked
    assert story.now - began >= PATIENCE


def test_who_pays_goes_on_without_the_payer() -> None:
    story = outlast(s.authorised().apply(s.assigned()), "presettle").ask("self_pay").answer("hold")
    assert story.of(ClaimPriced)[0].split == s.SELF_PAID
    story = outlast(Story().apply(s.approved()), "eligibility").ask("self_pay")
    assert story.of(ClaimAuthorised)[0].basis == "self_paid"


def test_who_cancels_ends_the_order() -> None:
    story = outlast(s.authorised().apply(s.assigned()), "presettle").ask("cancel")
    assert story.of(ClaimDeclined)[0].reason is DeclineReason.PAYER_UNAVAILABLE
    assert story.state.outcome is Outcome.DECLINED


@pytest.mark.parametrize(("consent", "end"), [(True, "ClaimAuthorised"), (None, "OrderClosed")])
def test_silence_means_what_was_agreed_at_submission(consent: bool | None, end: str) -> None:
    story = outlast(Story().apply(s.approved(self_pay=consent)), "eligibility").fire("ask")
    assert story.published()[-1] == end


def test_silence_accepts_no_price_above_the_accepted_share() -> None:
    story = s.authorised(self_pay=True, share_max_fen=9_000).apply(s.assigned())
    outlast(story, "presettle").fire("ask")
    assert story.of(PatientAsked)[-1].kind == "share_above_consent"
    assert story.calls == []


def test_a_settlement_in_doubt_cannot_be_paid_a_second_time() -> None:
    story = outlast(s.priced().apply(s.sealed()).unknown("settle"), "reverse")
    assert asked(story).options == ("wait", "cancel")
    story.ask("wait").answer("reverse").fire("again").answer("settle").answer("capture")
    assert story.published()[-1] == "ClaimSettled"
    story = outlast(s.priced().apply(s.sealed()).unknown("settle"), "reverse").ask("cancel")
    story.answer("reverse").answer("release")
    assert story.published()[-1] == "OrderClosed"


def closing_of_the_day() -> Batch:
    """What the shipped pack of a city says of its payer."""
    [found] = [row for rows in packs.read(packs.INSTALLED).away.values() for row in rows]
    return Batch(area="990000", **found._asdict())


def test_in_the_payers_planned_hours_nobody_is_asked() -> None:
    # Given an hour in which the payer of the area is planned to be away
    batch = closing_of_the_day()
    assert batch.begins == time(3, 30)
    story = Story().apply(s.approved())
    assert story.state.case is not None
    case = story.state.case.model_copy(update={"payer_area": "990101"})
    story.state = story.state.model_copy(update={"case": case})
    story.found, story.now = (
        Known(book(), batches=(batch,)),
        datetime(2026, 3, 1, 19, 31, tzinfo=UTC),
    )
    # When it does not answer, nothing is tried before the hour is over, and nobody is asked
    story.unknown("eligibility").fire("again")
    assert story.now == datetime(2026, 3, 1, 19, 40, tzinfo=UTC)
    assert not story.of(PatientAsked)
    # Then the usual patience begins
    outlast(story, "eligibility")
    assert story.now >= datetime(2026, 3, 1, 19, 40, tzinfo=UTC) + PATIENCE


def test_planned_hours_may_reach_over_midnight() -> None:
    batch = Batch("990000", NOW.date(), None, time(23, 30), time(0, 30))
    night = datetime(2026, 3, 1, 15, 45, tzinfo=UTC)
    assert batch.end_of(night) == batch.end_of(night + timedelta(minutes=30))
    assert batch.end_of(night + timedelta(minutes=45)) is None
    assert batch.end_of(night - timedelta(minutes=16)) is None


def test_hours_hold_from_their_day_to_their_day_and_several_add_up() -> None:
    def plan(begins: time, ends: time, last: date | None = None) -> Batch:
        return Batch("990000", date(2026, 3, 2), last, begins, ends)

    late, early = plan(time(23, 30), time(0, 30), date(2026, 3, 2)), plan(time(0, 15), time(1))
    known = Known(book(), batches=(late, early))

    def back(day: int, hour: int, minute: int) -> datetime | None:
        moment = datetime(2026, 3, day, hour, minute, tzinfo=CHINA)
        return known.back_from_batch("990101", moment)

    assert back(1, 23, 45) is None
    assert back(2, 0, 10) is None
    assert back(2, 23, 45) == datetime(2026, 3, 3, 0, 30, tzinfo=CHINA)
    assert back(3, 0, 20) == datetime(2026, 3, 3, 1, tzinfo=CHINA)
    assert back(3, 23, 45) is None
    # An area of its own level is asked before its province
    assert Known(book(), batches=(early,)).back_from_batch("980000", datetime.now(UTC)) is None
