"""What each person does with each order: every draw of the outside world, by name, in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.delivery import ReturnReason
from schemas.dispatch import DeclineCode
from schemas.values import Tier
from services.sandbox.profile import Profile, choose, draw

# The patient's answer that comes with the token of another voucher.
NEW_VOUCHER = "new_voucher"
# Asked of whom nobody can deliver to on the clock.
OTHER_TIME = "other_time"
# Refusals name a reason; how often each is given is an assumption of ours.
DECLINE_CODES = {
    DeclineCode.OTHER: 0.5,
    DeclineCode.CLOSING: 0.2,
    DeclineCode.CANNOT_REACH: 0.2,
    DeclineCode.PRICE_MISMATCH: 0.1,
}
# A late acceptance comes so long after the offer has expired.
LATE_S = 15.0
# Naming a courier takes the fleet no longer than this.
NAMING_S = 15.0
# Who collects it comes so long after the agreed time has begun.
COMES_AFTER_S = 15 * 60.0
# A courier waits so long at a closed door.
AT_DOOR_S = 120.0


class Answer(StrEnum):
    """What a pharmacy does with an offer."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    IGNORE = "ignore"
    TOO_LATE = "too_late"


class Verdict(StrEnum):
    """What a reviewer decides; the values are those of the command."""

    APPROVE = "approve"
    RETURN = "return"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Offered:
    """Answer and wait of a pharmacy; `code` only when it refuses."""

    answer: Answer
    after_s: float
    code: DeclineCode
    twice: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How the ride ends: None is a hand-over, otherwise the parcel comes back."""

    reason: ReturnReason | None
    hand_over_s: float


@dataclass(frozen=True, slots=True)
class Fates:
    """The draws of one seed and profile. `number` is the hospital's order number everywhere."""

    profile: Profile
    seed: int

    def u(self, *what: object) -> float:
        """A uniform draw by name."""
        return draw(self.seed, *what)

    def review(self, number: str, sheet: int, version: int) -> tuple[Verdict, float]:
        """What the reviewer decides on a sheet, and the seconds it takes."""
        style = self.profile.pharmacist
        shares = {
            Verdict.APPROVE: style.approve,
            Verdict.RETURN: style.return_to_doctor,
            Verdict.REJECT: style.reject,
        }
        verdict = choose(self.u(number, "review", sheet, version), shares)
        return verdict, style.decides.seconds(self.u(number, "review takes", sheet, version))

    def correction(self, number: str, sheet: int, version: int) -> float | None:
        """Seconds until the doctor corrects what was returned; None when it never comes."""
        if self.u(number, "corrects", sheet, version) >= self.profile.doctor.corrects:
            return None
        return self.profile.doctor.after.seconds(self.u(number, "correction takes", sheet, version))

    def patient_answer(self, number: str, kind: str) -> tuple[bool, float] | None:
        """Yes or no and the seconds it takes; None when the patient stays silent."""
        style = self.profile.patient
        if self.u(number, kind, "answers") >= style.answers_at_all:
            return None
        yes = self.u(number, kind, "says yes") < style.says_yes
        return yes, style.answers_after.seconds(self.u(number, kind, "answer takes"))

    def patient_choice(
        self, number: str, kind: str, options: Sequence[str]
    ) -> tuple[str, float] | None:
        """The option taken: the first is yes, the last is no, one between them another yes."""
        fate = self.patient_answer(number, kind)
        if fate is None:
            return None
        yes, after_s = fate
        agreeing = options[:-1]
        nth = int(self.u(number, kind, "which yes") * len(agreeing))
        return (agreeing[nth] if yes else options[-1]), after_s

    def other_time(self, number: str, options: Sequence[str]) -> tuple[str, float] | None:
        """What is agreed on instead of the clock; the last option is no."""
        fate = self.patient_answer(number, OTHER_TIME)
        if fate is None:
            return None
        yes, after_s = fate
        if not yes:
            return options[-1], after_s
        walks = self.u(number, "collects") < self.profile.patient.collects
        return (Tier.PICK_UP if walks and Tier.PICK_UP in options else options[0]), after_s

    def stays_away(self, number: str) -> bool:
        """Whether who agreed to collect it never comes."""
        return self.u(number, "stays away") < self.profile.patient.stays_away

    def offer(self, number: str, shop: str, nth: int) -> Offered:
        """What a pharmacy does with the nth offer of this order to it."""
        style, wrong = self.profile.pharmacy, self.profile.misbehave
        shares = {
            Answer.IGNORE: style.ignore,
            Answer.TOO_LATE: style.accept_too_late,
            Answer.REFUSE: style.refuse,
            Answer.ACCEPT: max(0.0, 1 - style.ignore - style.accept_too_late - style.refuse),
        }
        return Offered(
            answer=choose(self.u(number, shop, nth, "offer"), shares),
            after_s=style.accept_after.seconds(self.u(number, shop, nth, "answer takes"))
            + wrong.answer_late_s,
            code=choose(self.u(number, shop, nth, "refuses because"), DECLINE_CODES),
            twice=self.u(number, shop, nth, "twice") < wrong.accept_twice,
        )

    def silent(self, number: str, shop: str, attempt: int) -> bool:
        """Whether the pharmacy is never heard of again after it accepted."""
        return self.u(number, shop, attempt, "silent") < self.profile.misbehave.fall_silent

    def own_review(self, number: str, shop: str, attempt: int) -> tuple[bool, float]:
        """Whether the pharmacy's own pharmacist confirms, and the seconds it takes."""
        style = self.profile.pharmacy.own_review
        confirms = self.u(number, shop, attempt, "own review") >= style.gives_back
        return confirms, style.seconds(self.u(number, shop, attempt, "own review takes"))

    def missing_line(self, number: str, shop: str, attempt: int, lines: int) -> int | None:
        """The first line that the shelves do not hold after all."""
        share = self.profile.pharmacy.cannot_find_line
        for line in range(lines):
            if self.u(number, shop, attempt, "finds", line) < share:
                return line
        return None

    def picking(self, number: str, shop: str, attempt: int, lines: int, cold: bool) -> float:
        """Seconds of picking and packing."""
        u = self.u(number, shop, attempt, "picking takes")
        return self.profile.pharmacy.pick_pack.picking(u, lines, cold)

    def naming(self, number: str, attempt: int) -> float:
        """Seconds until the fleet names a courier."""
        return self._hastened(NAMING_S) * self.u(number, attempt, "naming takes")

    @property
    def at_door_s(self) -> float:
        """How long a courier waits at a closed door."""
        return self._hastened(AT_DOOR_S)

    def ending(self, number: str, cold: bool) -> Ending:
        """How the ride ends; it depends on the patient and the parcel, not on the attempt."""
        style = self.profile.courier
        hand_over = style.hand_over.seconds(self.u(number, "hand-over takes"))
        if self.u(number, "dawdles") < self.profile.misbehave.dawdle:
            hand_over += self.profile.misbehave.dawdle_s
        shares = {
            ReturnReason.LOST: style.lost_after_pick_up,
            ReturnReason.COLD_CHAIN: style.cold_chain_breach if cold else 0.0,
            ReturnReason.NOT_HOME: style.not_at_home,
            ReturnReason.REFUSED: style.refused_at_door,
        }
        left = self.u(number, "ending")
        for reason, share in shares.items():
            left -= share
            if left < 0:
                return Ending(reason, hand_over)
        return Ending(None, hand_over)

    def drug_left(self, number: str, codes: Sequence[str]) -> tuple[str, ...]:
        """What the patient does not take of a parcel with other drugs in it; never all of it."""
        kinds = sorted(set(codes))
        share = self.profile.courier.refuses_a_drug
        if len(kinds) < 2 or self.u(number, "refuses a drug") >= share:
            return ()
        return (kinds[int(self.u(number, "which drug") * len(kinds))],)

    def ride(self, vehicle: str, metres: float) -> float:
        """Seconds for a straight line of so many metres."""
        style = self.profile.courier
        return self._hastened(metres * style.detour / (style.speed_kmh[vehicle] / 3.6))

    def _hastened(self, seconds: float) -> float:
        return 0.0 if self.profile.instant else seconds / self.profile.courier.haste
