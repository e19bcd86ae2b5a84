"""Hospital, reviewers, patient, pharmacies and couriers of one order: what each may do next.

A `Road` knows of its order what the published facts tell, and nothing else; so everybody may act
before a service has read what he acts on, twice, or too late.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from schemas import claim, delivery, dispatch, prescription, review
from schemas.delivery import GiveBackReason, ReturnReason, ScanInput
from schemas.dispatch import DeclineCode
from schemas.message import Command, Event, PatientAsked
from schemas.network import ConfigureCity, CountStock, PutPharmacy, StockCountInput
from schemas.prescription import SheetInput, SubmitOrder
from schemas.values import CancelCause, Outcome, Tier
from services.catalogue import product
from services.dispatch.domain.tiers import OTHER_TIME
from services.kit.decision import Actor
from services.kit.ids import new_id
from tests.unit.prescription.examples import drug, line, sheet, submission

CITY, ZONE = "990100", "Asia/Shanghai"
LAT, LON = 30.65712, 104.06598
DRUGS = ("metformin", "amlodipine", "warfarin")
PHARMACIST, COURIER = "P-1", "rider-1"
CANCELS_MAX = 2


class Move(NamedTuple):
    """Somebody sends a command to a service; `key` makes its repetition known as one."""

    service: str
    command: Command
    actor: Actor
    key: str = ""


def founding(actors: dict[str, Actor], pharmacies: int, packs: int, now: datetime) -> list[Move]:
    """The city, its pharmacies, and what was counted on their shelves."""
    operator, chain = actors["operations"], actors["chain-a"]
    prices = {drug(inn).product_code: 1500 + 700 * n for n, inn in enumerate(DRUGS)}
    city = ConfigureCity(city=CITY, name="成都", timezone=ZONE, tiers=tuple(Tier))
    moves = [Move("network", city, operator)]
    counts = tuple(StockCountInput(product_code=code, count=packs) for code in prices)
    for n in range(pharmacies):
        shop = PutPharmacy(
            pharmacy_id=new_id(),
            name=f"药店 {n}",
            city=CITY,
            lat=LAT + 0.002 * n,
            lon=LON,
            datum="WGS-84",
            radius_m=8000,
            open_24h=True,
            designated=n % 3 != 2,
            capacity_per_slot=1000,
            prices=prices,
        )
        moves.append(Move("network", shop, chain))
        counted = CountStock(pharmacy_id=shop.pharmacy_id, counts=counts, counted_at=now)
        moves.append(Move("network", counted, chain))
    return moves


def recount(shop: UUID, rng: Random, actors: dict[str, Actor], now: datetime) -> Move:
    """A shelf is counted again, and holds less or more than before."""
    codes = [drug(inn).product_code for inn in DRUGS]
    counts = tuple(StockCountInput(product_code=code, count=rng.randrange(60)) for code in codes)
    counted = CountStock(pharmacy_id=shop, counts=counts, counted_at=now)
    return Move("network", counted, actors["chain-a"])


def submitted(number: int, rng: Random, now: datetime) -> SubmitOrder:
    """An order that rules clear, refuse, or show to a person; insured or not."""
    fate = rng.choice(("clear", "clear", "clear", "doubtful", "mixed", "banned"))
    sheets = [_sheet(fate, now)]
    if rng.random() < 0.2:
        sheets.append(_sheet("clear", now))
    insured = rng.random() < 0.7
    consent = {
        "risk_notice_confirmed": True,
        "share_max_fen": rng.choice((100_000, 100_000, 20)),
        "self_pay": rng.choice((True, None, False)) if insured else True,
        "shortage_registration": True,
    }
    person = submission().patient.model_dump() | {"certificate_number": f"SYNTHETIC-{number}"}
    place = {"address": "测试路 1 号", "lat": LAT + 0.001, "lon": LON, "datum": "WGS-84"}
    return submission(
        *sheets,
        order_number=f"S-{number}",
        city=CITY,
        tier=rng.choice(("30", "60", "emergency")),
        patient=person,
        delivery=place,
        consent=consent,
        voucher={"token": "synthetic-token", "payer_area": "510100"} if insured else None,
    )


def _sheet(fate: str, now: datetime) -> dict[str, Any]:
    own = {"prescription_id": str(new_id())}
    match fate:
        case "doubtful":
            reason = {
                "long_term": True,
                "long_term_reason": "慢性病稳定期",
                "patient_confirmed_long_term": True,
            }
            return sheet(1, line("amlodipine", days=56), at=now, **reason, **own)
        case "banned":
            return sheet(1, line("warfarin"), at=now, **own)
        case "mixed":
            return sheet(1, line("metformin"), line("amlodipine"), at=now, **own)
        case _:
            return sheet(1, line("metformin"), at=now, **own)


@dataclass
class Road:
    """One order as its people see it."""

    order: SubmitOrder
    actors: dict[str, Actor]
    rng: Random
    codes: Iterator[int]
    order_id: UUID | None = None
    sheets: dict[UUID, SheetInput] = field(default_factory=dict)
    with_person: dict[UUID, int] = field(default_factory=dict)
    returned: dict[UUID, int] = field(default_factory=dict)
    lease: UUID | None = None
    seen: dict[UUID, str] = field(default_factory=dict)
    reviewed: bool = False
    cancels: int = 0
    ask: PatientAsked | None = None
    offer: dispatch.OfferMade | None = None
    past: list[dispatch.OfferMade] = field(default_factory=list)
    assigned: dispatch.PharmacyAssigned | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    done: set[type[Event]] = field(default_factory=set)
    seal: delivery.SealParcel | None = None
    outcome: Outcome | None = None
    # What the patient of an order may look up, where some are collected: the code for the counter.
    code_of: Callable[[UUID], str] | None = None
    other_time: PatientAsked | None = None

    def __post_init__(self) -> None:
        self.sheets = {item.prescription_id: item for item in self.order.prescriptions}

    def hear(self, event: Event) -> None:
        """A fact of this order was published."""
        match event:
            case prescription.PrescriptionIssued():
                self.order_id = event.order_id
            case prescription.CancelRequested():
                self.cancels += 1
            case claim.PatientAsked():
                self.ask = event
            case claim.PatientAnswered():
                self.ask = None
            case claim.OrderClosed():
                self.outcome = event.outcome
            case _ if event.TYPE.startswith("review."):
                self._hear_review(event)
            case _ if event.TYPE.startswith("dispatch."):
                self._hear_dispatch(event)
            case _:
                self._hear_attempt(event)

    def _hear_review(self, event: Event) -> None:
        match event:
            case review.ReviewEscalated():
                for name in event.prescription_ids:
                    version = self.returned.pop(name, 0) + 1
                    self.with_person[name] = version
            case review.ReviewReturned():
                self.with_person.pop(event.prescription_id, None)
                self.returned[event.prescription_id] = event.version
            case review.ReviewApproved() | review.ReviewRejected() | review.ReviewCancelled():
                self.reviewed = True

    def _hear_dispatch(self, event: Event) -> None:
        match event:
            case dispatch.PatientAsked(kind=kind) if kind == OTHER_TIME and self.code_of:
                self.other_time = event
            case dispatch.PatientAnswered():
                self.other_time = None
            case dispatch.OfferMade():
                self.offer = event
                self.past.append(event)
            case dispatch.OfferDeclined() | dispatch.OfferExpired() | dispatch.OfferWithdrawn():
                self.offer = None
            case dispatch.PharmacyAssigned():
                self.offer, self.assigned, self.seal = None, event, None
                self.done = set()

    def _hear_attempt(self, event: Event) -> None:
        attempt = getattr(event, "attempt", None)
        if self.assigned is not None and attempt == self.assigned.attempt:
            self.done.add(type(event))

    def told(self, answer: Mapping[str, Any]) -> None:
        """An accepted pharmacy's fencing token, or a reviewer's lease and what it is for."""
        token = str(answer.get("token", ""))
        self.tokens[hashlib.sha256(token.encode()).hexdigest()] = token
        if "lease" in answer:
            self.lease = UUID(answer["lease"])
            self.with_person = {
                UUID(item["prescription_id"]): item["version"] for item in answer["prescriptions"]
            }
            self.seen = {
                UUID(item["prescription_id"]): item["seen"] for item in answer["prescriptions"]
            }

    def submit(self) -> Move:
        """Sent once, or again when the answer got lost."""
        key = f"submit-{self.order.order_number}"
        return Move("prescription", self.order, self.actors["hospital-a"], key)

    def forward(self) -> list[Move]:
        """What those do who want the parcel at the door."""
        if self.order_id is None:
            return [self.submit()]
        if self.outcome is not None:
            return []
        return [*self._desk(), *self._patient(), *self._shop(), *self._ride()]

    def sideways(self) -> list[Move]:
        """What else may come: refusals, second thoughts, repetitions, and what is too late."""
        if self.order_id is None:
            return []
        moves = [self.submit()]
        if self.cancels < CANCELS_MAX:
            moves.append(self._cancel())
        moves += [self._offer_move(dispatch.AcceptOffer, offer) for offer in self.past[-2:]]
        if self.offer is not None:
            declined = self._offer_move(dispatch.DeclineOffer, self.offer, code=DeclineCode.CLOSING)
            moves += [declined, declined]
        token = self._token()
        if token is not None:
            moves.append(self._own(delivery.GiveBack, token=token, reason=GiveBackReason.DAMAGED))
        if delivery.ParcelPickedUp in self.done:
            moves.append(self._courier(delivery.ReturnParcel, reason=ReturnReason.REFUSED))
        return moves

    def _cancel(self) -> Move:
        command = prescription.CancelOrder(
            order_id=self._id, request_id=new_id(), cause=CancelCause.PATIENT
        )
        return Move("prescription", command, self.actors["hospital-a"])

    def _desk(self) -> Iterator[Move]:
        if self.reviewed:
            return
        reviewers, hospital = self.actors["reviewers"], self.actors["hospital-a"]
        if self.with_person:
            take = review.TakeCase(order_id=self._id, pharmacist=PHARMACIST, title="2.4")
            yield Move("review", take, reviewers)
        for name, version in self.with_person.items() if self.lease else ():
            choice = self.rng.choice(("approve", "approve", "approve", "return", "reject"))
            decided = {
                "order_id": self._id,
                "prescription_id": name,
                "version": version,
                "pharmacist": PHARMACIST,
                "lease": self.lease,
                "seen": self.seen.get(name, ""),
                "code": "" if choice == "approve" else "2-5",
                "decision": choice,
            }
            yield Move("review", review.DecideCase.model_validate(decided), reviewers)
        for name, version in self.returned.items():
            fixed = self.sheets[name].model_copy(update={"version": version + 1})
            command = prescription.CorrectPrescription(order_id=self._id, prescription=fixed)
            yield Move("prescription", command, hospital)

    def _patient(self) -> Iterator[Move]:
        if self.ask is not None:
            answer = self.rng.choice(self.ask.options)
            command = claim.AnswerAsk(order_id=self._id, ask_id=self.ask.ask_id, answer=answer)
            yield Move("claim", command, self.actors["hospital-a"])
        if self.other_time is not None:
            yes, *_, no = self.other_time.options
            said = self.rng.choice((yes, yes, yes, no))
            asked = {"order_id": self._id, "ask_id": self.other_time.ask_id}
            agreed = dispatch.AnswerAsk(**asked, answer=said)
            yield Move("dispatch", agreed, self.actors["hospital-a"])

    def _shop(self) -> Iterator[Move]:
        if self.offer is not None:
            yield self._offer_move(dispatch.AcceptOffer, self.offer)
        token, assigned = self._token(), self.assigned
        if assigned is None:
            return
        if token is None:
            yield self._offer_move(dispatch.AcceptOffer, assigned)
        elif delivery.PharmacyReviewed not in self.done:
            yield self._own(delivery.ConfirmOrder, token=token, pharmacist=PHARMACIST)
        elif claim.ClaimPriced in self.done and delivery.ParcelSealed not in self.done:
            self.seal = self.seal or self._sealing(token)
            yield Move("delivery", self.seal, self.actors["chain-a"])

    def _sealing(self, token: str) -> delivery.SealParcel:
        assert self.assigned is not None
        scans = []
        for item in self.assigned.order.lines:
            known = product(item.product_code)
            assert known is not None
            codes = [f"{known.trace_prefix}{next(self.codes):013d}" for _ in range(item.quantity)]
            scans.append(ScanInput(line_id=item.line_id, codes=tuple(codes)))
        return delivery.SealParcel(
            order_id=self._id,
            attempt=self.assigned.attempt,
            token=token,
            seal=f"SEAL-{self.assigned.attempt}",
            scans=tuple(scans),
        )

    def _ride(self) -> Iterator[Move]:
        if self.assigned is not None and self.assigned.tier is Tier.PICK_UP:
            yield from self._counter()
        elif delivery.PharmacyReviewed in self.done and delivery.CourierAssigned not in self.done:
            yield self._courier(delivery.AssignCourier)
        elif delivery.ParcelPickedUp in self.done and not self.done & _ARRIVED:
            yield self._courier(delivery.HandOver)
        elif {delivery.ParcelReleased, delivery.CourierAssigned} <= self.done and self.seal:
            yield self._courier(delivery.PickUp, seal=self.seal.seal)

    def _counter(self) -> Iterator[Move]:
        token = self._token()
        if delivery.ParcelReleased in self.done and not self.done & _ARRIVED and token:
            code = self.code_of(self._id) if self.code_of else ""
            yield self._own(delivery.HandOut, token=token, code=code)

    def _offer_move(
        self,
        make: Callable[..., Command],
        offer: dispatch.OfferMade | dispatch.PharmacyAssigned,
        **more: Any,
    ) -> Move:
        place = {"offer_id": offer.offer_id, "pharmacy_id": offer.pharmacy_id}
        command = make(order_id=self._id, **place, **more)
        return Move("dispatch", command, self.actors["chain-a"])

    def _own(self, make: Callable[..., Command], **more: Any) -> Move:
        return Move("delivery", self._of_attempt(make, **more), self.actors["chain-a"])

    def _courier(self, make: Callable[..., Command], **more: Any) -> Move:
        command = self._of_attempt(make, courier_ref=COURIER, **more)
        return Move("delivery", command, self.actors["fleet-a"])

    def _of_attempt(self, make: Callable[..., Command], **more: Any) -> Command:
        assert self.assigned is not None
        return make(order_id=self._id, attempt=self.assigned.attempt, **more)

    def _token(self) -> str | None:
        return self.tokens.get(self.assigned.token_sha256) if self.assigned else None

    @property
    def _id(self) -> UUID:
        assert self.order_id is not None
        return self.order_id


_ARRIVED: set[type[Event]] = {delivery.ParcelDelivered, delivery.ParcelReturned}
