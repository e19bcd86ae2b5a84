"""An independent count of how a day should end: the same draws, none of the services' code.

Known for each order: what its content provokes, what each person would do, who is in its way. Not
known: which pharmacies were full, and how the machine's own time shifted races. So it walks the
pharmacies nearest first, and once more at the next opening where that is in time or the patient
agrees, and splits a cancellation near the moment of confirmation in two.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from schemas.values import AGREED_TIERS, Outcome, Tier
from services.sandbox import goods, payer, payment
from services.sandbox.arithmetic import year_of
from services.sandbox.days import METRES_PER_DEGREE
from services.sandbox.fates import NEW_VOUCHER, Answer, Fates, Verdict
from services.sandbox.insured import drawn
from services.sandbox.scripts import Script, is_cold, voucher_token
from services.sandbox.world import CLOSES, OPENS, Shop, World

# How the product is documented to behave; a change there is a change here.
OFFER_STANDS_S = {"30": 90.0, "60": 180.0, "emergency": 90.0}
OFFER_STANDS_ELSE_S = 180.0
OFFERS_MAX, ATTEMPTS_MAX = 10, 5
ASK_DEADLINE_S = 600.0
# So many times another voucher is asked for.
VOUCHERS_MAX = 3
CONFIRM_WITHIN_S = 600.0
# The last promise on the clock, and how long before its end an offer can still keep it.
CITYWIDE_S, CITYWIDE_NEEDS_S = 10_800.0, 3600.0
# How far a patient is asked to go.
COLLECT_M = 3000.0
END = "end"
NEAR_M = 5000.0
SOON = timedelta(minutes=15)
# What the services themselves take, and how far a race may shift either way.
CLAIM_S, TICK_S, MARGIN_S = 1.0, 1.0, 20.0
CORRECTIONS_MAX = 20

RETURN_DEADLINE_S = 7200.0

Shares = dict[Outcome, float]


@dataclass(frozen=True)
class Reviewed:
    """What is left of an order after review, and when; no line means rejected."""

    seconds: float
    packs: tuple[tuple[str, int], ...]
    cold: bool

    @property
    def codes(self) -> tuple[str, ...]:
        """The products, a line each."""
        return tuple(code for code, _ in self.packs)


@dataclass(frozen=True)
class Search:
    """The search for a pharmacy: whether one sealed, and until when a cancellation counts."""

    sealed: bool
    open_until_s: float
    gave_back_confirmed: bool
    at_counter: bool


@dataclass
class Walk:
    """How far the search has come. An agreed time has offers that stand as long as `stands_s`.

    Who collects it goes `within_m` at most.
    """

    began: float
    seconds: float
    offers: int = 0
    attempts: int = 0
    confirmed_s: float | None = None
    gave_back: bool = False
    stands_s: float | None = None
    within_m: float | None = None
    tried: set[str] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Nobody else is asked any more."""
        return self.attempts >= ATTEMPTS_MAX or self.offers >= OFFERS_MAX


class Expectation:
    """Counts one world."""

    def __init__(self, world: World, fates: Fates) -> None:
        self._world = world
        self._fates = fates
        shops = world.shops
        self._lat = np.array([shop.point.lat for shop in shops])
        self._lon = np.array([shop.point.lon for shop in shops])
        self._on_duty = np.array([shop.on_duty for shop in shops])
        self._designated = np.array([shop.designated for shop in shops])
        self._cold = np.array([shop.cold_chain for shop in shops])
        self._open_24h = np.array([shop.open_24h for shop in shops])
        self._stock = {
            product.product_code: np.array([product.product_code in shop.stock for shop in shops])
            for product in goods.assortment()
        }

    def count(self, scripts: Iterable[Script]) -> dict[str, float]:
        """Expected orders by outcome."""
        total = dict.fromkeys((outcome.value for outcome in Outcome), 0.0)
        for script in scripts:
            for outcome, share in self.of(script).items():
                total[outcome.value] += share
        return total

    def of(self, script: Script) -> Shares:
        """How one order ends; shares sum to one."""
        if script.must_reject is not None:
            return {Outcome.REJECTED: 1.0}
        reviewed = self._review(script)
        if not reviewed.codes:
            return self._or_cancelled(script, reviewed.seconds, {Outcome.REJECTED: 1.0})
        return self._authorised(script, reviewed, self._insured(script))

    def _review(self, script: Script) -> Reviewed:
        sheets = list(script.submit.prescriptions)
        seconds = 0.0
        if script.seen_by_pharmacist:
            passed, seconds = self._looked_at(script.number)
            if not passed:
                sheets = sheets[1:]
        lines = [line for sheet in sheets for line in sheet.lines]
        packs = tuple((line.product_code, line.quantity) for line in lines)
        return Reviewed(seconds, packs, any(is_cold(code) for code, _ in packs))

    def _looked_at(self, number: str) -> tuple[bool, float]:
        """Whether the sheet that a person looks at passes, version by version, and when."""
        seconds = 0.0
        for version in range(1, CORRECTIONS_MAX):
            verdict, wait = self._fates.review(number, 0, version)
            seconds += wait
            if verdict is not Verdict.RETURN:
                return verdict is Verdict.APPROVE, seconds
            corrected = self._fates.correction(number, 0, version)
            if corrected is None:
                return False, seconds + RETURN_DEADLINE_S
            seconds += corrected
        return False, seconds

    def _insured(self, script: Script) -> bool | None:
        """Whether the payer pays; False is self-paid, None the end."""
        profile, seed = self._fates.profile, self._fates.seed
        if script.submit.voucher is None:
            return False
        for nth in range(VOUCHERS_MAX + 1):
            token = voucher_token(script.number, nth)
            if not payer.expired(profile, seed, token):
                if payer.declines(profile, seed, token):
                    break
                return True
            if nth < VOUCHERS_MAX and (choice := self._of_expired(script)) != NEW_VOUCHER:
                return False if choice == "self_pay" else None
        return self._self_paid(script)

    def _of_expired(self, script: Script) -> str:
        """What becomes of an order whose voucher is refused: a new one, `self_pay`, `cancel`."""
        agreed = script.submit.consent.self_pay
        paying = () if agreed is False else ("self_pay",)
        options = (NEW_VOUCHER, *paying, "cancel")
        fate = self._fates.patient_choice(script.number, "voucher", options)
        if fate is None or fate[1] > ASK_DEADLINE_S:
            return "self_pay" if agreed else "cancel"
        return fate[0]

    def _self_paid(self, script: Script) -> bool | None:
        pays = script.submit.consent.self_pay
        if pays is None:
            pays = self._says_yes(script.number, "self_pay")
        return False if pays else None

    def _says_yes(self, number: str, kind: str) -> bool:
        """In time; silence is a no to all of these questions."""
        answer = self._fates.patient_answer(number, kind)
        return answer is not None and answer[0] and answer[1] <= ASK_DEADLINE_S

    def _authorised(self, script: Script, reviewed: Reviewed, insured: bool | None) -> Shares:
        start = reviewed.seconds + CLAIM_S
        if insured is None:
            return self._or_cancelled(script, start, {Outcome.DECLINED: 1.0})
        if self._too_dear(script, reviewed):
            return self._or_cancelled(script, start, {Outcome.EXHAUSTED: 1.0})
        search = self._search(script, reviewed, insured, start + TICK_S)
        ends = {Outcome.EXHAUSTED: 1.0}
        if search.sealed:
            ends = self._paid(script, reviewed, insured, search.at_counter)
        if script.cancel_at is not None and search.gave_back_confirmed:
            # Too late at first, but the mark is honoured when the pharmacy gives back.
            ends = {Outcome.CANCELLED: 1.0}
        return self._or_cancelled(script, search.open_until_s, ends)

    def _too_dear(self, script: Script, reviewed: Reviewed) -> bool:
        """Who came to pay it all and named a ceiling is offered to nobody above it."""
        limit = script.submit.consent.share_max_fen
        if script.submit.voucher is not None or limit is None:
            return False
        return self._share_fen(script, reviewed, insured=False)[0] > limit

    def _paid(self, script: Script, reviewed: Reviewed, insured: bool, at_counter: bool) -> Shares:
        """Once a pharmacy is found: the patient's money, then the door or the counter."""
        number, fates = script.number, self._fates
        limit = script.submit.consent.share_max_fen
        share_fen, cash_fen = self._share_fen(script, reviewed, insured)
        # Whoever chose to pay alone did so before a price was known: a yes to a price that stands
        # in the question would take all of it, but only a payer that fails later asks so.
        if share_fen > (limit or 0) and not self._says_yes(number, "share_above_consent"):
            return {Outcome.DECLINED: 1.0}
        if cash_fen and not payment.pays(fates.profile, fates.seed, number):
            return {Outcome.DECLINED: 1.0}
        ending = fates.ending(number, reviewed.cold)
        if fates.stays_away(number) if at_counter else ending.reason is not None:
            return {Outcome.RETURNED: 1.0}
        return {Outcome.DELIVERED: 1.0}

    def _share_fen(self, script: Script, reviewed: Reviewed, insured: bool) -> tuple[int, int]:
        """The patient's share at catalogue prices, and what of it is cash."""
        lines = [
            payer.Line(
                line_id=str(n),
                product_code=code,
                quantity=quantity,
                unit_price_fen=goods.price_fen(code),
            )
            for n, (code, quantity) in enumerate(reviewed.packs)
        ]
        total = sum(line.unit_price_fen * line.quantity for line in lines)
        voucher = script.submit.voucher
        if not insured or voucher is None:
            return total, total
        at = script.spec.placed_at
        certificate = script.submit.patient.certificate_number
        who = drawn(self._fates.seed, certificate).insured(year_of(at))
        split = payer.split_of(payer.shares_of(voucher.payer_area, at, who, lines))
        return total - split["fund_fen"], split["cash_fen"]

    def _or_cancelled(self, script: Script, until_s: float, ends: Shares) -> Shares:
        """A cancellation counts until then; near that moment it may go either way."""
        if script.cancel_at is None:
            return ends
        at = (script.cancel_at - script.spec.placed_at).total_seconds()
        share = min(1.0, max(0.0, (until_s + MARGIN_S - at) / (2 * MARGIN_S)))
        shares = {outcome: part * (1 - share) for outcome, part in ends.items()}
        shares[Outcome.CANCELLED] = shares.get(Outcome.CANCELLED, 0.0) + share
        return shares

    def _search(self, script: Script, reviewed: Reviewed, insured: bool, start: float) -> Search:
        """Walk the pharmacies, nearest first; where nobody is left, as the patient agrees."""
        walk = Walk(start, start)
        sealed = self._walked(
            walk, script, reviewed, self._in_order(script, reviewed, insured, walk)
        )
        if not sealed and not walk.done and self._waits(script, reviewed, insured, walk):
            shops = self._in_order(script, reviewed, insured, walk)
            sealed = self._walked(walk, script, reviewed, shops)
        until_s = walk.seconds if walk.confirmed_s is None else walk.confirmed_s
        return Search(sealed, until_s, walk.gave_back, walk.within_m is not None)

    def _walked(
        self, walk: Walk, script: Script, reviewed: Reviewed, shops: Iterator[Shop]
    ) -> bool:
        """Whether one of them sealed; what each of them would do is added to the walk."""
        fates, number = self._fates, script.number
        stands = walk.stands_s or OFFER_STANDS_S.get(script.spec.tier, OFFER_STANDS_ELSE_S)
        for shop in shops:
            if walk.done:
                break
            walk.offers += 1
            walk.tried.add(shop.key)
            offer = fates.offer(number, shop.key, 1)
            if offer.answer is not Answer.ACCEPT or offer.after_s > stands:
                refused = offer.answer is Answer.REFUSE and offer.after_s <= stands
                walk.seconds += offer.after_s if refused else stands
                continue
            walk.attempts, walk.offers = walk.attempts + 1, 0
            confirms, wait = fates.own_review(number, shop.key, walk.attempts)
            walk.seconds += offer.after_s + min(wait, CONFIRM_WITHIN_S)
            if not confirms or wait > CONFIRM_WITHIN_S:
                continue
            walk.confirmed_s = walk.seconds if walk.confirmed_s is None else walk.confirmed_s
            count = len(reviewed.codes)
            if fates.missing_line(number, shop.key, walk.attempts, count) is None:
                return True
            walk.gave_back = True
            walk.seconds += fates.picking(number, shop.key, walk.attempts, count, reviewed.cold)
        return False

    def _waits(self, script: Script, reviewed: Reviewed, insured: bool, walk: Walk) -> bool:
        """Whether it is asked again at the next opening: in time, or because the patient agrees."""
        now = script.spec.placed_at + timedelta(seconds=walk.seconds)
        local = self._world.local(now)
        opens = local.replace(hour=OPENS.hour, minute=OPENS.minute, second=0, microsecond=0)
        opens += timedelta(days=1) if opens <= local else timedelta()
        opens_s = walk.seconds + (opens - local).total_seconds()
        then = replace(walk, seconds=opens_s, stands_s=OFFER_STANDS_ELSE_S)
        if next(self._in_order(script, reviewed, insured, then), None) is None:
            return False
        if opens_s + CITYWIDE_NEEDS_S > walk.began + CITYWIDE_S:
            choices = self._choices(script, reviewed, insured, then)
            if not choices:
                return False
            stands_s = max(ASK_DEADLINE_S, opens_s - walk.seconds)
            fate = self._fates.other_time(script.number, (*choices, END))
            if fate is None or fate[0] == END or fate[1] > stands_s:
                walk.seconds += min(fate[1], stands_s) if fate else stands_s
                return False
            walk.within_m = COLLECT_M if fate[0] == Tier.PICK_UP else None
        walk.seconds, walk.stands_s = opens_s, OFFER_STANDS_ELSE_S
        return True

    def _choices(
        self, script: Script, reviewed: Reviewed, insured: bool, then: Walk
    ) -> tuple[Tier, ...]:
        """What may be agreed on for that opening; what must stay cold is not collected."""
        near = replace(then, within_m=COLLECT_M)
        able = {Tier.SCHEDULED}
        if not reviewed.cold and next(self._in_order(script, reviewed, insured, near), None):
            able.add(Tier.PICK_UP)
        return tuple(tier for tier in AGREED_TIERS if tier in able & {*self._world.tiers})

    def _in_order(
        self, script: Script, reviewed: Reviewed, insured: bool, walk: Walk
    ) -> Iterator[Shop]:
        """Pharmacies that could serve it: those in reach and open long enough, then the others.

        Nobody is asked twice.
        """
        door, now = script.spec.door, script.spec.placed_at + timedelta(seconds=walk.seconds)
        soon, late = self._world.local(now + SOON), self._world.local(now + _promise(script))
        north = (self._lat - door.lat) * METRES_PER_DEGREE
        east = (self._lon - door.lon) * METRES_PER_DEGREE * np.cos(np.radians(door.lat))
        far = np.hypot(north, east)
        able = self._on_duty & (self._open_24h | _by_day(soon))
        if insured:
            able = able & self._designated
        if reviewed.cold:
            able = able & self._cold
        for code in reviewed.codes:
            able = able & self._stock[code]
        if walk.within_m is not None:
            able = able & (far <= walk.within_m)
        left = np.flatnonzero(able)
        second = ~((far <= NEAR_M) & (self._open_24h | _by_day(late)))
        order = left[np.lexsort((far[left], second[left]))]
        there, tried = (self._world.shops[int(n)] for n in order), frozenset(walk.tried)
        return (shop for shop in there if shop.key not in tried)


def _by_day(local: datetime) -> bool:
    return OPENS <= local.time() < CLOSES


def _promise(script: Script) -> timedelta:
    return timedelta(minutes={"30": 30, "emergency": 45}.get(script.spec.tier, 60))
