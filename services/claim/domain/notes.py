"""Claim's private facts: they change the state and are audited, but never leave the service."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.claim import DeclineReason, Split
from schemas.delivery import ScannedLine
from schemas.values import LinePrice, Order, Outcome, Sealed, Voucher
from services.kit.decision import Note

# A dispute about what was kept of a parcel, which the payer will not settle at all.
KEPT_DISPUTE = "kept"
# What a refusal does not end: without them, money stays where it must not. Also kinds of disputes.
COMES_HOME = ("reverse", "undo", "release", "refund")


class Part(BaseModel):
    """An immutable piece of the state."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Assignment(Part):
    """A pharmacy that accepted, with its prices."""

    number: int
    pharmacy_id: UUID
    prices: tuple[LinePrice, ...]
    # What the order may have fallen back to; empty in what was assigned before this was kept.
    tier: str = ""

    @property
    def total_fen(self) -> int:
        """What all lines cost."""
        return sum(line.unit_price_fen * line.quantity for line in self.prices)


class Slip(Part):
    """What a settlement is reconciled by."""

    payer_area: str
    insutype: str
    clr_type: str
    clr_optins: str
    visit_id: str
    msgid: str
    settled_at: datetime


class UsedUp(Part):
    """What is used up of a person's year, by pool."""

    POOLS: ClassVar[tuple[str, ...]] = ("deductible", "past_deductible", "fund", "supplements")

    deductible: dict[str, int] = Field(default_factory=dict)
    past_deductible: dict[str, int] = Field(default_factory=dict)
    fund: dict[str, int] = Field(default_factory=dict)
    supplements: dict[str, int] = Field(default_factory=dict)
    # Where a ceiling counts it the payer tells it; no pool of our books, as others never do.
    in_scope: dict[str, int] = Field(default_factory=dict)
    burden_fen: int = 0


class Use(Part):
    """What one settlement took of a person's year and account, and how these were before it."""

    person: str
    year: int
    before: UsedUp
    uses: UsedUp
    balance_before_fen: int
    account_fen: int


class Dispute(Part):
    """Both sides' figures of one answer, and in which of them they differ."""

    kind: str
    # The call whose answer it is about, with its kind: a quote and a settlement may be of one try.
    ref: str
    ours: Split
    theirs: Split
    differs: tuple[str, ...]
    # Of a presettlement or settlement that the payer has in its books.
    payer_id: str
    slip: Slip | None = None
    use: Use | None = None
    opened_at: datetime | None = None
    # Who wants to write off what is refused to come home; it takes two.
    proposed_by: str = ""

    @property
    def call_ref(self) -> str:
        """The call's own; disputes that were opened before the kind stood there have no other."""
        return self.ref.rpartition(":")[2]


class Opened(Note):
    """Review passed the order on."""

    order: Order


class PersonKnown(Note):
    """Whose voucher it is, as a salted hash of the payer's number."""

    person: str


class Called(Note):
    """An outside call is in flight."""

    kind: str
    ref: str


class Replied(Note):
    """The call in flight was answered, or given up as unknown."""

    outcome: str


class InDoubt(Note):
    """Nobody could tell what became of a call."""

    kind: str
    ref: str


class DoubtCleared(Note):
    """The doubtful call is known not to count."""


class Rested(Note):
    """Nothing is done until the timer fires."""

    ref: str


class Woken(Note):
    """The pause is over, or something more important came."""


class Patience(Note):
    """How long a payer that does not answer is tried before the patient is asked."""

    until: datetime | None = None


class Questioned(Note):
    """Remembers what a refusal of the open question means."""

    reason: DeclineReason


class VoucherRefused(Note):
    """The payer does not take this voucher; another may be good."""

    code: str


class VoucherRenewed(Note):
    """The patient brought another token; it is sealed as the first one was."""

    voucher: Sealed[Voucher]


class SelfPaid(Note):
    """From here on the patient pays everything."""


class ShareAccepted(Note):
    """The patient took a larger share than first agreed."""

    share_fen: int


class Assigned(Note):
    """A pharmacy accepted."""

    assignment: Assignment


class Quoted(Note):
    """Who bears what at this pharmacy; no money moved."""

    split: Split
    presettlement_id: str = ""


class Disputed(Note):
    """The payer's amounts are not ours: nothing is booked until a person decides."""

    dispute: Dispute


class DisputeDecided(Note):
    """A person has decided; the reason is theirs."""

    decision: str
    by: UUID
    reason: str


class Requoted(Note):
    """What was presettled no longer counts; the sale has to be quoted again."""


class SealSeen(Note):
    """The parcel is sealed: these codes are to be settled."""

    lines: tuple[ScannedLine, ...]


class PartlyReturned(Note):
    """Delivered, but for these lines: the rest is settled anew, as of the first settlement."""

    returned: tuple[UUID, ...]


class KeptRefused(Note):
    """The payer will not pay for what was kept of a parcel."""

    code: str


class HomeRefused(Note):
    """Money that has to come home does not."""

    kind: str
    code: str


class CameHome(Note):
    """It did after all: nobody need decide on it any more."""


class WriteOffProposed(Note):
    """One person would give up on it; another has to say so as well."""

    person: str
    reason: str


class AttemptLost(Note):
    """The attempt was given back: its money comes home."""

    number: int


class AttemptOver(Note):
    """Nothing was moved for this attempt, so there was nothing to undo."""

    number: int


class Ending(Note):
    """The outcome is decided; the books close when the money is home."""

    outcome: Outcome


class MoneyNote(Note):
    """A movement of money; the ledger is written from these. `call_ref` is the call's."""

    attempt: int
    call_ref: str = ""


class Held(MoneyNote):
    """The provider holds the patient's share."""

    ref: str
    cash_fen: int


class Captured(MoneyNote):
    """The held share went to the pharmacy."""

    cash_fen: int


class SettlementMade(MoneyNote):
    """Fund and personal account pay the pharmacy."""

    settlement_id: str
    fund_fen: int
    account_fen: int
    cash_fen: int = 0
    # None where the payer told nothing but the split.
    slip: Slip | None = None
    # None where the area's rules are not known here.
    use: Use | None = None
    at: datetime | None = None


class SettlementUndone(MoneyNote):
    """Fund and personal account have their money back."""

    settlement_id: str
    fund_fen: int
    account_fen: int


class Released(MoneyNote):
    """The hold is let go, uncaptured as far as we ever knew."""

    cash_fen: int


class PartlyRefunded(MoneyNote):
    """Of the captured share this much went back; `left_fen` stays with the pharmacy."""

    cash_fen: int
    left_fen: int


class MadeGood(MoneyNote):
    """The platform pays what the kept lines cost the patient more than was captured."""

    fen: int


class CourierPaid(MoneyNote):
    """The platform owes the fleet this ride; it stands outside the claim."""

    fen: int
    # None for a ride of before delivery told of its fleet.
    fleet: UUID | None = None


class Compensated(MoneyNote):
    """The platform owes the patient this for a broken promise; it stands outside the claim."""

    fen: int


class Refunded(MoneyNote):
    """The captured share went back to the patient."""

    cash_fen: int
