"""The pharmacies of the chain: answer offers, confirm, pick, scan, seal, or give back."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from schemas.delivery import (
    BatchInput,
    ConfirmOrder,
    GiveBack,
    GiveBackReason,
    HandOut,
    ScanInput,
    SealParcel,
)
from schemas.dispatch import AcceptOffer, DeclineOffer
from schemas.values import Tier
from services.catalogue import product
from services.sandbox.fates import COMES_AFTER_S, LATE_S, Answer
from services.sandbox.stage import Entry, Stage
from services.sandbox.world import Shop

CHAIN = "chain-a"
ACCEPT, DECLINE = "/v1/offers/accept", "/v1/offers/decline"
CONFIRM, SEAL = "/v1/deliveries/confirm", "/v1/deliveries/seal"
GIVE_BACK, HAND_OUT = "/v1/deliveries/give-back", "/v1/deliveries/hand-out"
# How old, in months, what stands in front on the shelf is, and what comes after it.
AGES = (9, 5)
FROM_ONE_BOX = 2
GOOD_FOR_YEARS = 2
OVER = frozenset({"claim.ClaimDeclined", "claim.OrderClosed", "delivery.DeliveryCancelled"})


@dataclass
class Task:
    """One attempt that is ours, with what has been heard of it."""

    order_id: UUID
    number: str
    shop: Shop
    offer_id: UUID
    attempt: int
    lines: tuple[Mapping[str, Any], ...]
    assigned_at: datetime
    token: str = ""
    collected_from: datetime | None = None

    @property
    def label(self) -> str:
        """Names this attempt in the agenda."""
        return f"{self.number}/{self.attempt}"

    @property
    def cold(self) -> bool:
        """Whether a line needs a fridge."""
        return any(line.get("cold_chain") for line in self.lines)


@dataclass
class Signs:
    """When an attempt was confirmed and priced; may be heard before the assignment itself."""

    confirmed_at: datetime | None = None
    priced_at: datetime | None = None


@dataclass
class Answering:
    """What became of our acceptances: tokens by offer, and those on their way."""

    tokens: dict[UUID, str] = field(default_factory=dict)
    asked: set[UUID] = field(default_factory=set)


class Pharmacies:
    """Every pharmacy of the world, under the chain's one token."""

    tenants = (CHAIN,)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._answering = Answering()
        self._offers: dict[UUID, Counter[UUID]] = {}
        self._tasks: dict[UUID, Task] = {}
        self._signs: dict[UUID, dict[int, Signs]] = {}

    def hear(self, entry: Entry) -> None:
        """One fact of the chain's feed."""
        self._stage.book.when_known(entry.subject, lambda number: self._heard(entry, number))

    def _heard(self, entry: Entry, number: str) -> None:
        match entry.type:
            case "dispatch.OfferMade":
                self._offered(entry, number)
            case "dispatch.OfferDeclined" | "dispatch.OfferWithdrawn":
                self._stage.agenda.drop(f"offer/{entry.data['offer_id']}")
            case "dispatch.PharmacyAssigned":
                self._assigned(entry, number)
            case "claim.ClaimPriced" | "delivery.PharmacyReviewed":
                self._progressed(entry)
            case "delivery.ParcelSealed":
                self._stage.agenda.drop(f"pick/{number}/{entry.data['attempt']}")
            case "delivery.ParcelReleased":
                self._released(entry, number)
            case "delivery.AttemptFailed":
                self._failed(entry, number)
            case kind if kind in OVER:
                self._over(entry)

    def _offered(self, entry: Entry, number: str) -> None:
        offer_id, shop = UUID(entry.data["offer_id"]), self._shop(entry)
        if shop is None:
            return
        offers = self._offers.setdefault(entry.subject, Counter())
        offers[shop.pharmacy_id] += 1
        fate = self._stage.fates.offer(number, shop.key, offers[shop.pharmacy_id])
        start, seconds = entry.at, fate.after_s
        if fate.answer is Answer.IGNORE:
            return
        if fate.answer is Answer.TOO_LATE:
            start, seconds = datetime.fromisoformat(entry.data["expires_at"]), LATE_S

        async def accept() -> None:
            for _ in range(2 if fate.twice else 1):
                await self._accept(entry.subject, offer_id, shop)

        async def refuse() -> None:
            command = DeclineOffer(
                order_id=entry.subject,
                offer_id=offer_id,
                pharmacy_id=shop.pharmacy_id,
                code=fate.code,
            )
            await self._stage.post.command(CHAIN, DECLINE, command)

        act = refuse if fate.answer is Answer.REFUSE else accept
        self._stage.plan(f"offer/{offer_id}", start, seconds, act, about=about(entry.subject))

    async def _accept(self, order_id: UUID, offer_id: UUID, shop: Shop) -> None:
        command = AcceptOffer(order_id=order_id, offer_id=offer_id, pharmacy_id=shop.pharmacy_id)
        self._answering.asked.add(offer_id)
        try:
            answer = await self._stage.post.command(CHAIN, ACCEPT, command)
        finally:
            self._answering.asked.discard(offer_id)
        if not answer.ok:
            return
        token = str(answer.body["token"])
        self._answering.tokens[offer_id] = token
        task = self._tasks.get(order_id)
        if task is not None and task.offer_id == offer_id and not task.token:
            task.token = token
            self._begin(task)

    def _assigned(self, entry: Entry, number: str) -> None:
        shop, offer_id = self._shop(entry), UUID(entry.data["offer_id"])
        if shop is None:
            return
        task = Task(
            order_id=entry.subject,
            number=number,
            shop=shop,
            offer_id=offer_id,
            attempt=int(entry.data["attempt"]),
            lines=tuple(entry.data["order"]["lines"]),
            assigned_at=entry.at,
            token=self._answering.tokens.pop(offer_id, ""),
            collected_from=_collected_from(entry.data),
        )
        self._tasks[entry.subject] = task
        if task.token:
            self._begin(task)
        elif offer_id not in self._answering.asked:
            # The token was lost with a restart: asked again, the same one is given.
            async def again() -> None:
                await self._accept(task.order_id, offer_id, shop)

            self._stage.plan(f"offer/{offer_id}", entry.at, 0, again, about=about(entry.subject))

    def _begin(self, task: Task) -> None:
        """The pharmacy's own pharmacist looks at the prescription."""
        fates, key = self._stage.fates, task.shop.key
        if fates.silent(task.number, key, task.attempt):
            return
        if self._signs_of(task.order_id, task.attempt).confirmed_at is not None:
            self._pick_when_ready(task)
            return
        confirms, seconds = fates.own_review(task.number, key, task.attempt)

        async def confirm() -> None:
            command = ConfirmOrder(
                order_id=task.order_id,
                attempt=task.attempt,
                token=task.token,
                pharmacist=f"P-{key}",
            )
            await self._stage.post.command(CHAIN, CONFIRM, command)

        async def give_back() -> None:
            await self._give_back(task, GiveBackReason.PHARMACIST_REFUSED)

        act = confirm if confirms else give_back
        label = f"confirm/{task.label}"
        self._stage.plan(label, task.assigned_at, seconds, act, about=about(task.order_id))

    def _progressed(self, entry: Entry) -> None:
        attempt = int(entry.data["attempt"])
        signs = self._signs_of(entry.subject, attempt)
        if entry.type == "claim.ClaimPriced":
            signs.priced_at = entry.at
        else:
            signs.confirmed_at = entry.at
        task = self._tasks.get(entry.subject)
        if task is not None and task.attempt == attempt:
            self._pick_when_ready(task)

    def _pick_when_ready(self, task: Task) -> None:
        """Picking begins when it is confirmed and priced, and we hold the token."""
        signs = self._signs_of(task.order_id, task.attempt)
        if signs.confirmed_at is None:
            return
        self._stage.agenda.drop(f"confirm/{task.label}")
        if signs.priced_at is None or not task.token:
            return
        fates, key, count = self._stage.fates, task.shop.key, len(task.lines)
        seconds = fates.picking(task.number, key, task.attempt, count, task.cold)
        missing = fates.missing_line(task.number, key, task.attempt, count)

        async def finish() -> None:
            if missing is None:
                await self._stage.post.command(CHAIN, SEAL, seal_of(task))
            else:
                await self._give_back(task, GiveBackReason.CANNOT_FIND_LINE, missing)

        start = max(signs.confirmed_at, signs.priced_at)
        self._stage.plan(f"pick/{task.label}", start, seconds, finish, about=about(task.order_id))

    def _released(self, entry: Entry, number: str) -> None:
        """Who collects it comes to the counter and shows the code of the hospital's app."""
        task, script = self._tasks.get(entry.subject), self._stage.book.script_of(number)
        if task is None or task.collected_from is None or script is None:
            return
        if self._stage.fates.stays_away(number):
            return
        post, order_id, attempt = self._stage.post, task.order_id, task.attempt

        async def hand_out() -> None:
            shown = await post.get(script.hospital, f"/v1/deliveries/{order_id}/collection")
            if shown.ok:
                code = str(shown.body["code"])
                command = HandOut(order_id=order_id, attempt=attempt, token=task.token, code=code)
                await post.command(CHAIN, HAND_OUT, command)

        start = max(entry.at, task.collected_from)
        label = f"collect/{task.label}"
        self._stage.plan(label, start, COMES_AFTER_S, hand_out, about=about(order_id))

    async def _give_back(
        self, task: Task, reason: GiveBackReason, missing: int | None = None
    ) -> None:
        products = () if missing is None else (task.lines[missing]["product_code"],)
        command = GiveBack(
            order_id=task.order_id,
            attempt=task.attempt,
            token=task.token,
            reason=reason,
            products=products,
        )
        await self._stage.post.command(CHAIN, GIVE_BACK, command)

    def _failed(self, entry: Entry, number: str) -> None:
        """Only this attempt is over: the next offer may have been heard of before."""
        attempt = int(entry.data["attempt"])
        for step in ("confirm", "pick", "collect"):
            self._stage.agenda.drop(f"{step}/{number}/{attempt}")
        task = self._tasks.get(entry.subject)
        if task is not None and task.attempt == attempt:
            del self._tasks[entry.subject]

    def _over(self, entry: Entry) -> None:
        self._stage.agenda.drop_about(about(entry.subject))
        self._tasks.pop(entry.subject, None)
        self._signs.pop(entry.subject, None)
        self._offers.pop(entry.subject, None)

    def _signs_of(self, order_id: UUID, attempt: int) -> Signs:
        return self._signs.setdefault(order_id, {}).setdefault(attempt, Signs())

    def _shop(self, entry: Entry) -> Shop | None:
        return self._stage.world.by_id.get(UUID(entry.data["pharmacy_id"]))


def _collected_from(assigned: Mapping[str, Any]) -> datetime | None:
    """From when the patient comes for it; None where a courier brings it."""
    if assigned.get("tier") != Tier.PICK_UP:
        return None
    return datetime.fromisoformat(assigned["not_before"])


def about(order_id: UUID) -> tuple[str, UUID]:
    """What the plans of the pharmacies for one order are dropped by."""
    return "pharmacy", order_id


def seal_of(task: Task) -> SealParcel:
    """Every pack scanned, and a seal."""
    scans = tuple(_scan_of(task, line) for line in task.lines)
    return SealParcel(
        order_id=task.order_id,
        attempt=task.attempt,
        token=task.token,
        seal=f"S-{task.number}-{task.attempt}"[-40:],
        scans=scans,
    )


def _scan_of(task: Task, line: Mapping[str, Any]) -> ScanInput:
    packs = range(int(line["quantity"]))
    codes = tuple(trace_code(line["product_code"], task.number, task.attempt, n) for n in packs)
    # The last pack of many is the first of a fresh box.
    whole = len(codes) - 1 if len(codes) > FROM_ONE_BOX else len(codes)
    parts = ((AGES[0], codes[:whole]), (AGES[1], codes[whole:]))
    batches = tuple(_batch(task.assigned_at, age, part) for age, part in parts if part)
    return ScanInput(line_id=UUID(line["line_id"]), codes=codes, batches=batches)


def _batch(now: datetime, age_months: int, codes: tuple[str, ...]) -> BatchInput:
    """Made on the first of a month so long ago, and good for as many years as most drugs are."""
    months = now.year * 12 + now.month - 1 - age_months
    made = date(months // 12, months % 12 + 1, 1)
    expires = made.replace(year=made.year + GOOD_FOR_YEARS)
    return BatchInput(number=f"{made:%y%m%d}A", made_on=made, expires_on=expires, codes=codes)


def trace_code(product_code: str, number: str, attempt: int, pack: int) -> str:
    """Twenty digits that no other pack has: product, order, attempt, pack.

    An order holds a product on one line only, and its number ends in up to nine digits.
    """
    found = product(product_code)
    prefix = found.trace_prefix if found else "0000000"
    ordinal = int(number.rpartition("-")[2]) % 1_000_000_000
    return f"{prefix}{ordinal:09}{attempt % 10}{pack:03}"
