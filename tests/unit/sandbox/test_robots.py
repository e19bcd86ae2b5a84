"""Robots hear facts and plan acts; here the way in is a notebook."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.claim import AnswerAsk
from schemas.delivery import ConfirmOrder, GiveBack, HandOver, PickUp, ReturnParcel, SealParcel
from schemas.dispatch import AcceptOffer, DeclineOffer
from schemas.message import Command
from schemas.prescription import CancelOrder, CorrectPrescription, SubmitOrder
from schemas.review import DecideCase, TakeCase
from services.catalogue import product
from services.sandbox.agenda import Agenda, GivenClock
from services.sandbox.days import Point
from services.sandbox.fates import Answer, Fates
from services.sandbox.post import Answer as HttpAnswer
from services.sandbox.post import Post
from services.sandbox.profile import Profile
from services.sandbox.robots.fleet import Fleet, Roster
from services.sandbox.robots.hospital import Hospital
from services.sandbox.robots.pharmacy import Pharmacies, trace_code
from services.sandbox.robots.reviewer import Reviewer
from services.sandbox.scripts import Script
from services.sandbox.stage import Book, Entry, Stage
from services.sandbox.world import Rider, World

ORDER = UUID("01950000-0000-7000-8000-000000000001")
OFFER = UUID("01950000-0000-7000-8000-0000000000f1")
LEASE = "01950000-0000-7000-8000-0000000000a1"
START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
TOKEN = "t" * 32


class Notebook(Post):
    """Writes down what is sent; answers as the services would."""

    def __init__(self, answers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        super().__init__("http://nowhere.invalid", {})
        self.commands: list[tuple[str, str, Command]] = []
        self.answers: dict[str, Mapping[str, Any]] = {
            "/v1/prescriptions": {"order_id": str(ORDER)},
            "/v1/offers/accept": {"attempt": 1, "token": TOKEN},
            "/v1/reviews/take": {"lease": LEASE},
            **(answers or {}),
        }

    async def command(
        self, tenant: str, path: str, command: Command, *, idempotency_key: str | None = None
    ) -> HttpAnswer:
        self.commands.append((tenant, path, command))
        body = self.answers.get(path, {})
        return HttpAnswer(int(body.get("status", 200)), body)

    async def get(
        self, tenant: str, path: str, params: Mapping[str, str | int | float] | None = None
    ) -> HttpAnswer:
        return HttpAnswer(200, self.answers[path])

    def noted(self) -> list[Command]:
        return [command for _, _, command in self.commands]


class Scene:
    """A stage whose time the test moves."""

    def __init__(self, world: World, fates: Fates, scripts: list[Script]) -> None:
        self.post = Notebook()
        self.clock = GivenClock(START)
        self.scripts = {script.number: script for script in scripts}
        self.stage = Stage(world, fates, Agenda(), self.clock, self.post, Book(self.scripts.get))

    def know(self, script: Script) -> None:
        self.stage.book.learn(ORDER, script.number)

    def until(self, moment: datetime) -> None:
        """Do everything that is due until then, in its order."""
        while (at := self.stage.agenda.next_at()) is not None and at <= moment:
            self.clock.at = max(at, self.clock.at)
            for due in self.stage.agenda.take(self.clock.at):
                asyncio.run(due.act())
        self.clock.at = moment

    def later(self, **span: float) -> None:
        self.until(self.clock.at + timedelta(**span))


@pytest.fixture
def scene(world: World, fates: Fates, scripts: list[Script]) -> Scene:
    return Scene(world, fates, scripts)


def entry(kind: str, at: datetime = START, **data: Any) -> Entry:
    return Entry(kind, ORDER, at, {"order_id": str(ORDER), **data})


def offer(world: World, shop: int = 0, at: datetime = START) -> Entry:
    expires = (at + timedelta(seconds=90)).isoformat()
    pharmacy_id = str(world.shops[shop].pharmacy_id)
    ids = {"offer_id": str(OFFER), "pharmacy_id": pharmacy_id}
    return entry("dispatch.OfferMade", at, **ids, expires_at=expires)


def assigned(world: World, script: Script, shop: int = 0, attempt: int = 1) -> Entry:
    lines = [
        {
            "line_id": str(UUID(int=n)),
            "product_code": line.product_code,
            "quantity": line.quantity,
        }
        for n, line in enumerate(script.submit.prescriptions[0].lines)
    ]
    return entry(
        "dispatch.PharmacyAssigned",
        attempt=attempt,
        offer_id=str(OFFER),
        pharmacy_id=str(world.shops[shop].pharmacy_id),
        order={"lines": lines},
    )


def answering(scene: Scene, answer: Answer) -> Script:
    """A script whose first offer to the first pharmacy gets this answer, in time."""
    shop = scene.stage.world.shops[0].key
    for script in scene.scripts.values():
        fate = scene.stage.fates.offer(script.number, shop, 1)
        if fate.answer is answer and fate.after_s < 90:
            return script
    raise AssertionError(f"nobody answers {answer}")


def smooth(scene: Scene) -> Script:
    """A script that the first pharmacy accepts, confirms, finds and seals, and that arrives."""
    fates, shop = scene.stage.fates, scene.stage.world.shops[0].key
    for script in scene.scripts.values():
        lines = len(script.submit.prescriptions[0].lines)
        if (
            fates.offer(script.number, shop, 1).answer is Answer.ACCEPT
            and fates.own_review(script.number, shop, 1)[0]
            and fates.missing_line(script.number, shop, 1, lines) is None
            and fates.ending(script.number, False).reason is None
        ):
            return script
    raise AssertionError("nothing goes smoothly")


def test_a_hospital_submits_at_the_placed_moment_and_cancels_when_drawn(scene: Scene) -> None:
    script = next(s for s in scene.scripts.values() if s.cancel_at is not None)
    assert script.cancel_at is not None
    hospital = Hospital(scene.stage)
    scene.clock.at = script.spec.placed_at - timedelta(seconds=1)
    hospital.expect(script)
    scene.until(script.spec.placed_at - timedelta(seconds=1))
    assert scene.post.noted() == []
    scene.until(script.spec.placed_at)
    assert [type(c) for c in scene.post.noted()] == [SubmitOrder]
    issued = {"order": {"order_number": script.number}}
    hospital.hear(entry("prescription.PrescriptionIssued", script.spec.placed_at, **issued))
    scene.until(script.cancel_at)
    assert [type(c) for c in scene.post.noted()] == [SubmitOrder, CancelOrder]


def test_a_refused_submission_is_kept_with_its_reason(scene: Scene) -> None:
    script = next(iter(scene.scripts.values()))
    scene.post.answers["/v1/prescriptions"] = {"status": 422, "code": "bad_date", "detail": "no"}
    hospital = Hospital(scene.stage)
    hospital.expect(script)
    scene.until(script.spec.placed_at)
    assert hospital.not_taken == {script.number: "bad_date: no"}


def test_the_patient_answers_an_ask_as_drawn_or_never(scene: Scene) -> None:
    hospital, kinds = Hospital(scene.stage), set()
    for n, script in enumerate(list(scene.scripts.values())[:60]):
        order_id = UUID(int=n + 1)
        scene.stage.book.learn(order_id, script.number)
        options = ["wait", "self_pay", "cancel"]
        asked = {"ask_id": str(order_id), "kind": "payer_down", "options": options}
        hospital.hear(Entry("claim.PatientAsked", order_id, START, asked))
        kinds.add(scene.stage.fates.patient_answer(script.number, "payer_down") is None)
    scene.later(hours=5)
    said = [getattr(command, "answer", "") for command in scene.post.noted()]
    assert kinds == {True, False}
    assert 40 < len(said) < 60
    assert set(said) == {"wait", "self_pay", "cancel"}


def test_a_refused_voucher_is_replaced_by_another_each_time(scene: Scene) -> None:
    hospital, fresh = Hospital(scene.stage), []
    for n, script in enumerate(list(scene.scripts.values())[:60]):
        order_id = UUID(int=n + 1)
        scene.stage.book.learn(order_id, script.number)
        options, facts = ["new_voucher", "cancel"], {"code": "token_expired", "nth": n % 3 + 1}
        asked = {"ask_id": str(order_id), "kind": "voucher", "options": options, "facts": facts}
        hospital.hear(Entry("claim.PatientAsked", order_id, START, asked))
        fresh.append(f"EV-{script.number}-{n % 3 + 1}")
    scene.later(hours=5)
    said = [command for command in scene.post.noted() if isinstance(command, AnswerAsk)]
    assert {command.answer for command in said} == {"new_voucher", "cancel"}
    brought = [command.voucher_token for command in said if command.answer == "new_voucher"]
    assert set(brought) < set(fresh)
    assert all(command.voucher_token is None for command in said if command.answer == "cancel")


def test_a_later_promise_is_put_up_with_and_packs_are_wanted_as_drawn(scene: Scene) -> None:
    hospital = Hospital(scene.stage)
    asks = {"later_promise": ["go_on", "cancel"], "stock_appeared": ["yes", "no"]}
    for n, script in enumerate(list(scene.scripts.values())[:60]):
        for m, (kind, options) in enumerate(asks.items()):
            order_id = UUID(int=2 * n + m + 1)
            scene.stage.book.learn(order_id, script.number)
            asked = {"ask_id": str(order_id), "kind": kind, "options": options}
            hospital.hear(Entry("dispatch.PatientAsked", order_id, START, asked))
    scene.later(hours=5)
    said = [getattr(command, "answer", "") for command in scene.post.noted()]
    assert 80 < len(said) < 120
    assert set(said) == {"go_on", "yes", "no"}


def test_a_returned_sheet_comes_back_as_the_next_version(scene: Scene) -> None:
    hospital, script = Hospital(scene.stage), next(iter(scene.scripts.values()))
    scene.know(script)
    sheet = script.submit.prescriptions[0]
    hospital.hear(
        entry("review.ReviewReturned", prescription_id=str(sheet.prescription_id), version=1)
    )
    scene.later(hours=9)
    (command,) = scene.post.noted()
    assert isinstance(command, CorrectPrescription)
    assert command.prescription.version == 2
    assert command.prescription.lines == sheet.lines
    assert command.prescription.prescriber != sheet.prescriber


def test_a_closed_order_asks_nothing_more_of_anybody(scene: Scene) -> None:
    hospital, script = Hospital(scene.stage), next(iter(scene.scripts.values()))
    scene.know(script)
    prescription_id = str(script.submit.prescriptions[0].prescription_id)
    hospital.hear(entry("review.ReviewReturned", prescription_id=prescription_id, version=1))
    hospital.hear(entry("claim.OrderClosed", outcome="expired"))
    scene.later(hours=9)
    assert scene.post.noted() == []
    assert hospital.closed == {ORDER: "expired"}


def test_the_reviewer_takes_looks_and_decides_the_version_that_lies_there(scene: Scene) -> None:
    reviewer, script = Reviewer(scene.stage), next(iter(scene.scripts.values()))
    scene.know(script)
    prescription_id = str(script.submit.prescriptions[0].prescription_id)
    shown = {"prescription_id": prescription_id, "version": 3, "seen": "a" * 64}
    case = {"prescriptions": [shown]}
    scene.post.answers[f"/v1/reviews/{ORDER}"] = case
    reviewer.hear(entry("review.ReviewEscalated", prescription_ids=[prescription_id]))
    scene.later(hours=1)
    take, decide = scene.post.noted()
    assert isinstance(take, TakeCase)
    assert isinstance(decide, DecideCase)
    assert (str(decide.lease), decide.version, decide.seen) == (LEASE, 3, "a" * 64)
    assert take.title in ("2.2", "2.4")


def test_what_two_pharmacists_must_pass_two_pharmacists_decide(scene: Scene) -> None:
    reviewer, script = Reviewer(scene.stage), next(iter(scene.scripts.values()))
    scene.know(script)
    prescription_id = str(script.submit.prescriptions[0].prescription_id)
    shown = {"prescription_id": prescription_id, "version": 1, "seen": "a" * 64}
    scene.post.answers[f"/v1/reviews/{ORDER}"] = {"prescriptions": [shown]}
    scene.post.answers["/v1/reviews/decide"] = {"wants": "second"}
    reviewer.hear(entry("review.ReviewEscalated", prescription_ids=[prescription_id]))
    scene.later(hours=1)
    decided = [sent for sent in scene.post.noted() if isinstance(sent, DecideCase)]
    assert len({sent.pharmacist for sent in decided}) == len(decided) == 2


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        (Answer.ACCEPT, [AcceptOffer]),
        (Answer.REFUSE, [DeclineOffer]),
        (Answer.IGNORE, []),
    ],
)
def test_a_pharmacy_answers_offers_as_drawn(
    scene: Scene, answer: Answer, kinds: list[type[Command]]
) -> None:
    scene.know(answering(scene, answer))
    Pharmacies(scene.stage).hear(offer(scene.stage.world))
    scene.later(hours=1)
    assert [type(command) for command in scene.post.noted()] == kinds


def test_a_late_acceptance_comes_after_the_offer_has_expired(scene: Scene) -> None:
    scene.know(answering(scene, Answer.TOO_LATE))
    Pharmacies(scene.stage).hear(offer(scene.stage.world))
    scene.later(seconds=90)
    assert scene.post.noted() == []
    scene.later(seconds=30)
    assert [type(command) for command in scene.post.noted()] == [AcceptOffer]


def test_an_offer_waits_until_the_hospital_has_heard_of_the_order(scene: Scene) -> None:
    script = answering(scene, Answer.ACCEPT)
    Pharmacies(scene.stage).hear(offer(scene.stage.world))
    scene.later(hours=1)
    assert scene.post.noted() == []
    assert scene.stage.book.waiting == 1
    scene.know(script)
    scene.later(hours=1)
    assert [type(command) for command in scene.post.noted()] == [AcceptOffer]


def test_a_pharmacy_confirms_then_seals_once_it_is_priced(scene: Scene) -> None:
    script, pharmacies = smooth(scene), Pharmacies(scene.stage)
    scene.know(script)
    pharmacies.hear(offer(scene.stage.world))
    scene.later(minutes=5)
    pharmacies.hear(assigned(scene.stage.world, script))
    scene.later(minutes=10)
    assert [type(c) for c in scene.post.noted()] == [AcceptOffer, ConfirmOrder]
    pharmacies.hear(entry("delivery.PharmacyReviewed", scene.clock.at, attempt=1))
    scene.later(hours=3)
    assert len(scene.post.noted()) == 2, "nothing is picked before it is priced"
    pharmacies.hear(entry("claim.ClaimPriced", scene.clock.at, attempt=1))
    scene.later(hours=3)
    sealed = scene.post.noted()[-1]
    assert isinstance(sealed, SealParcel)
    assert sealed.token == TOKEN
    codes = [code for scan in sealed.scans for code in scan.codes]
    wanted = [line.quantity for line in script.submit.prescriptions[0].lines]
    assert [len(scan.codes) for scan in sealed.scans] == wanted
    assert len(set(codes)) == len(codes)
    assert all(len(code) == 20 and code.isdigit() for code in codes)


def test_signs_that_come_before_the_assignment_are_not_lost(scene: Scene) -> None:
    script, pharmacies = smooth(scene), Pharmacies(scene.stage)
    scene.know(script)
    pharmacies.hear(offer(scene.stage.world))
    scene.later(minutes=5)
    for kind in ("claim.ClaimPriced", "delivery.PharmacyReviewed"):
        pharmacies.hear(entry(kind, scene.clock.at, attempt=1))
    pharmacies.hear(assigned(scene.stage.world, script))
    scene.later(hours=3)
    assert isinstance(scene.post.noted()[-1], SealParcel)


def test_after_a_restart_the_token_is_asked_for_again(scene: Scene) -> None:
    script, pharmacies = smooth(scene), Pharmacies(scene.stage)
    scene.know(script)
    pharmacies.hear(assigned(scene.stage.world, script))
    scene.later(minutes=10)
    assert [type(c) for c in scene.post.noted()] == [AcceptOffer, ConfirmOrder]


def test_a_failed_attempt_does_not_forget_the_next_offer(scene: Scene) -> None:
    script, pharmacies = answering(scene, Answer.ACCEPT), Pharmacies(scene.stage)
    scene.know(script)
    pharmacies.hear(offer(scene.stage.world))
    pharmacies.hear(entry("delivery.AttemptFailed", attempt=1))
    scene.later(minutes=5)
    assert [type(c) for c in scene.post.noted()] == [AcceptOffer]


def test_a_pharmacy_that_misses_a_line_gives_back_and_names_the_product(scene: Scene) -> None:
    fates, shop = scene.stage.fates, scene.stage.world.shops[0].key
    pharmacies = Pharmacies(scene.stage)

    def misses(script: Script) -> bool:
        lines = len(script.submit.prescriptions[0].lines)
        return (
            fates.own_review(script.number, shop, 1)[0]
            and fates.missing_line(script.number, shop, 1, lines) == 0
        )

    script = next(script for script in scene.scripts.values() if misses(script))
    scene.know(script)
    pharmacies.hear(assigned(scene.stage.world, script))
    scene.later(minutes=10)
    for kind in ("claim.ClaimPriced", "delivery.PharmacyReviewed"):
        pharmacies.hear(entry(kind, scene.clock.at, attempt=1))
    scene.later(hours=3)
    back = scene.post.noted()[-1]
    assert isinstance(back, GiveBack)
    assert back.products == (script.submit.prescriptions[0].lines[0].product_code,)


def test_misbehaving_pharmacies_accept_twice_and_fall_silent(
    world: World, standard: Profile, scripts: list[Script]
) -> None:
    wrong = standard.misbehave.model_copy(update={"accept_twice": 1.0, "fall_silent": 1.0})
    fates = Fates(standard.model_copy(update={"misbehave": wrong}), 7)
    scene = Scene(world, fates, scripts)
    script, pharmacies = answering(scene, Answer.ACCEPT), Pharmacies(scene.stage)
    scene.know(script)
    pharmacies.hear(offer(world))
    scene.later(minutes=5)
    pharmacies.hear(assigned(world, script))
    scene.later(hours=3)
    assert [type(c) for c in scene.post.noted()] == [AcceptOffer, AcceptOffer]


def called(world: World, attempt: int = 1, not_before: datetime | None = None) -> Entry:
    place = world.shops[0].point
    return entry(
        "delivery.PharmacyReviewed",
        attempt=attempt,
        not_before=not_before and not_before.isoformat(),
        pharmacy_point={"lat": place.lat, "lon": place.lon},
        destination={"lat": place.lat + 0.01, "lon": place.lon},
        cold_chain=False,
    )


def ridden(scene: Scene, script: Script) -> list[Command]:
    """What a fleet sends for a parcel that is released ten minutes after the call."""
    fleet, clock = Fleet(scene.stage), scene.clock
    scene.know(script)
    fleet.hear(called(scene.stage.world))
    scene.later(minutes=10)
    (named,) = scene.post.noted()
    ref = getattr(named, "courier_ref", "")
    fleet.hear(entry("delivery.CourierAssigned", clock.at, attempt=1, courier_ref=ref))
    fleet.hear(entry("delivery.ParcelSealed", clock.at, attempt=1, seal="S-0001"))
    scene.later(hours=1)
    assert len(scene.post.noted()) == 1, "nothing is fetched before it is released"
    fleet.hear(entry("delivery.ParcelReleased", clock.at, attempt=1))
    scene.later(hours=1)
    assert isinstance(scene.post.noted()[-1], PickUp)
    fleet.hear(entry("delivery.ParcelPickedUp", clock.at, attempt=1))
    scene.later(hours=2)
    return scene.post.noted()[2:]


def test_a_courier_fetches_what_is_released_and_hands_it_over(scene: Scene) -> None:
    (end,) = ridden(scene, smooth(scene))
    assert isinstance(end, HandOver)


def test_no_courier_is_at_the_door_before_the_time_that_was_agreed(scene: Scene) -> None:
    fleet, script, begins = Fleet(scene.stage), smooth(scene), START + timedelta(hours=1)
    scene.know(script)
    fleet.hear(called(scene.stage.world, not_before=begins))
    fleet.hear(entry("delivery.ParcelSealed", attempt=1, seal="S-0001"))
    fleet.hear(entry("delivery.ParcelReleased", attempt=1))
    scene.later(minutes=35)
    assert scene.post.noted() == [], "nobody stands still for it all the while"
    scene.later(minutes=15)
    (named,) = scene.post.noted()
    ref = getattr(named, "courier_ref", "")
    fleet.hear(entry("delivery.CourierAssigned", scene.clock.at, attempt=1, courier_ref=ref))
    while len(scene.post.noted()) == 1:
        scene.later(seconds=30)
    assert isinstance(scene.post.noted()[-1], PickUp)
    fleet.hear(entry("delivery.ParcelPickedUp", scene.clock.at, attempt=1))
    while len(scene.post.noted()) == 2:
        scene.later(seconds=30)
    assert begins <= scene.clock.at <= begins + timedelta(hours=1)


def test_a_parcel_whose_ride_ends_badly_comes_back_with_the_reason(scene: Scene) -> None:
    fates = scene.stage.fates
    script = next(
        s for s in scene.scripts.values() if fates.ending(s.number, False).reason is not None
    )
    (end,) = ridden(scene, script)
    assert isinstance(end, ReturnParcel)
    assert end.reason == fates.ending(script.number, False).reason


def test_the_courier_who_is_there_first_goes_and_is_free_again_afterwards() -> None:
    shop = Point(0.0, 0.0)
    off = START + timedelta(hours=1)
    riders = (
        Rider("walker", "walking", Point(0.004, 0.0), START, off),
        Rider("biker", "motorcycle", Point(0.01, 0.0), START, off),
        Rider("later", "car", Point(0.0, 0.0), off, off + timedelta(hours=1)),
    )
    roster = Roster(riders, {"walking": 5, "motorcycle": 20, "car": 20})
    assert [roster.take(START, shop) for _ in range(3)] == [1, 0, None]
    assert roster.reserves == 1
    roster.free(1, Point(0.5, 0.5))
    assert roster.place(1) == Point(0.5, 0.5)
    assert roster.take(START, shop) == 1


def test_a_traceability_code_is_of_its_pack_alone() -> None:
    some = product("XC08CAZ001A0010001SYNTH")
    assert some is not None
    codes = {
        trace_code(some.product_code, number, attempt, pack)
        for number in ("day03-000001", "day03-000010", "demo-123456789")
        for attempt in (1, 2)
        for pack in range(12)
    }
    assert len(codes) == 3 * 2 * 12
    assert all(len(code) == 20 and code.startswith(some.trace_prefix) for code in codes)
