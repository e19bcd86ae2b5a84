"""An independent count of how a day should end: the same draws, none of the services' code.

Known for each order: what its content provokes, what each person would do, who is in its way. Not
known: which pharmacies were full, and how the machine's own time shifted races. So it walks the
pharmacies nearest first, and splits a cancellation near the moment of confirmation in two.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from schemas.values import Outcome
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
        ends = self._paid(script, reviewed, insured) if search.sealed else {Outcome.EXHAUSTED: 1.0}
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

    def _paid(self, script: Script, reviewed: Reviewed, insured: bool) -> Shares:
        """Once a pharmacy is found: the patient's money, then the door."""
        number, fates = script.number, self._fates
        limit = script.submit.consent.share_max_fen
        share_fen, cash_fen = self._share_fen(script, reviewed, insured)
        # Whoever chose to pay alone did so before a price was known: a yes to a price that stands
        # in the question would take all of it, but only a payer that fails later asks so.
        if share_fen > (limit or 0) and not self._says_yes(number, "share_above_consent"):
            return {Outcome.DECLINED: 1.0}
        if cash_fen and not payment.pays(fates.profile, fates.seed, number):
            return {Outcome.DECLINED: 1.0}
        if fates.ending(number, reviewed.cold).reason is not None:
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
        """Walk the pharmacies, nearest first, with what each of them would do."""
        fates, number, seconds = self._fates, script.number, start
        stands = OFFER_STANDS_S.get(script.spec.tier, OFFER_STANDS_ELSE_S)
        confirmed_s, gave_back, attempt, offers = None, False, 0, 0
        for shop in self._in_order(script, reviewed, insured, start):
            offers += 1
            if attempt >= ATTEMPTS_MAX or offers > OFFERS_MAX:
                break
            offer = fates.offer(number, shop.key, 1)
            if offer.answer is not Answer.ACCEPT or offer.after_s > stands:
                refused = offer.answer is Answer.REFUSE and offer.after_s <= stands
                seconds += offer.after_s if refused else stands
                continue
            attempt, offers = attempt + 1, 0
            confirms, wait = fates.own_review(number, shop.key, attempt)
            seconds += offer.after_s + min(wait, CONFIRM_WITHIN_S)
            if not confirms or wait > CONFIRM_WITHIN_S:
                continue
            confirmed_s = seconds if confirmed_s is None else confirmed_s
            count = len(reviewed.codes)
            if fates.missing_line(number, shop.key, attempt, count) is None:
                return Search(True, confirmed_s, gave_back)
            gave_back = True
            seconds += fates.picking(number, shop.key, attempt, count, reviewed.cold)
        return Search(False, seconds if confirmed_s is None else confirmed_s, gave_back)

    def _in_order(
        self, script: Script, reviewed: Reviewed, insured: bool, start: float
    ) -> Iterator[Shop]:
        """Pharmacies that could serve it: those in reach and open long enough, then the others."""
        door, now = script.spec.door, script.spec.placed_at + timedelta(seconds=start)
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
        left = np.flatnonzero(able)
        second = ~((far <= NEAR_M) & (self._open_24h | _by_day(late)))
        order = left[np.lexsort((far[left], second[left]))]
        return (self._world.shops[int(n)] for n in order)


def _by_day(local: datetime) -> bool:
    return OPENS <= local.time() < CLOSES


def _promise(script: Script) -> timedelta:
    return timedelta(minutes={"30": 30, "emergency": 45}.get(script.spec.tier, 60))
