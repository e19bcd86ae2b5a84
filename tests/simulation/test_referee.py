"""The referee calls the whole road right, and sees each single step beside it."""

import pytest

from schemas import delivery, dispatch, review
from schemas.message import Event
from schemas.prescription import CancelRequested
from schemas.values import CancelCause, CancelResult, Outcome
from services.claim.domain.notes import Captured, Held, SettlementMade, SettlementUndone
from services.kit.decision import Note
from services.kit.ids import new_id
from services.kit.service import Published
from services.kit.spec import ORDER_ID
from tests.simulation.referee import Referee
from tests.unit.delivery import story
from tests.unit.delivery.story import LINES, ORDER, PHARMACIST

SHOP = new_id()
REQUEST = new_id()
SPLIT = story.SPLIT

approved = review.ReviewApproved(
    order_id=ORDER_ID, order=ORDER, approved=(new_id(),), rule_pack="1", reviewer="rules"
)
sealed = delivery.ParcelSealed(
    order_id=ORDER_ID,
    attempt=1,
    pharmacy_id=SHOP,
    seal=story.SEAL,
    lines=tuple(
        delivery.ScannedLine(line_id=line.line_id, product_code=line.product_code, codes=())
        for line in LINES
    ),
)
released = delivery.ParcelReleased(
    order_id=ORDER_ID,
    attempt=1,
    pharmacy_id=SHOP,
    pharmacy_tenant=PHARMACIST.tenant_id,
    city=ORDER.city,
)
picked_up = delivery.ParcelPickedUp(order_id=ORDER_ID, attempt=1, courier_ref="rider-1")
delivered = delivery.ParcelDelivered(
    order_id=ORDER_ID, attempt=1, delivered_at=story.DUE, due_at=story.DUE, late=False
)
failed = delivery.AttemptFailed(
    order_id=ORDER_ID, attempt=1, pharmacy_id=SHOP, reason=delivery.GiveBackReason.DAMAGED
)
asked = CancelRequested(order_id=ORDER_ID, request_id=REQUEST, cause=CancelCause.PATIENT)
taken_back = dispatch.CancelAnswered(
    order_id=ORDER_ID,
    request_id=REQUEST,
    cause=CancelCause.PATIENT,
    result=CancelResult.CANCELLED,
)
held = Held(attempt=1, ref="1.1", cash_fen=SPLIT.cash_fen)
captured = Captured(attempt=1, cash_fen=SPLIT.cash_fen)
paid = SettlementMade(
    attempt=1, settlement_id="S-1", fund_fen=SPLIT.fund_fen, account_fen=SPLIT.account_fen
)
undone = SettlementUndone(
    attempt=1, settlement_id="S-1", fund_fen=SPLIT.fund_fen, account_fen=SPLIT.account_fen
)
Step = Event | Note

TO_SEALED: tuple[Step, ...] = (approved, story.assigned(), held, story.priced(), sealed)
TO_RELEASED: tuple[Step, ...] = (*TO_SEALED, paid, captured, story.settled(), released)
TO_THE_DOOR: tuple[Step, ...] = (*TO_RELEASED, picked_up, delivered)


def watch(*steps: Step) -> Referee:
    referee = Referee()
    for step in steps:
        referee.note(step)
        if isinstance(step, Event):
            service = step.TYPE.partition(".")[0]
            version = referee.versions[service] + 1
            referee.publish(service, Published(step, new_id(), version))
    return referee


def test_the_whole_road_is_right() -> None:
    watch(*TO_THE_DOOR, story.closed(Outcome.DELIVERED).model_copy(update={"attempt": 1})).rest()


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((*TO_SEALED, released), "before it was settled"),
        ((story.assigned(),), "without an approved review"),
        ((*TO_SEALED, sealed), "twice"),
        ((approved, story.assigned(), story.assigned(2)), "before the last attempt had failed"),
        ((*TO_RELEASED, delivered), "before it left"),
        ((*TO_RELEASED, picked_up, failed), "given back on the road"),
        ((approved, held, story.closed()), "a held share was forgotten"),
        ((*TO_RELEASED, undone, asked, story.closed()), "not for everybody"),
        ((approved, story.closed()), "nobody asked"),
        ((approved, asked, story.closed(), story.closed()), "closed twice"),
    ],
)
def test_one_wrong_step_is_seen(steps: tuple[Step, ...], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        watch(*steps)


def test_a_hole_in_the_versions_is_seen() -> None:
    with pytest.raises(AssertionError, match="hole"):
        Referee().publish("review", Published(approved, new_id(), 2))


def test_what_is_left_in_the_end_is_seen() -> None:
    with pytest.raises(AssertionError, match="never closed"):
        watch(approved).rest()
    with pytest.raises(AssertionError, match="never answered"):
        watch(approved, asked, story.closed()).rest()
    wrong = story.closed(Outcome.DELIVERED).model_copy(update={"attempt": 1})
    with pytest.raises(AssertionError, match="told it was taken back"):
        watch(*TO_THE_DOOR, asked, taken_back, wrong).rest()
