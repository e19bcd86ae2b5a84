"""Any order of arrival between topics, any outcome of any call: one close, and no money lost.

Hypothesis chooses who moves next in `road.py`; weighed walks go far before something breaks.
"""

from collections import Counter
from random import Random

from hypothesis import HealthCheck, settings

from schemas.claim import DisputeDecision, OrderClosed
from schemas.values import CancelCause, Outcome
from tests.unit.claim.road import CANCELS_MAX, DONE, PARTLY, REFUSED, TWISTS, UNKNOWN, Road

Road.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestRoad = Road.TestCase


WALKS = 600
# Weighed so that many orders come far before something breaks.
MOVES: dict[str, int] = {
    "claim_reads": 10,
    "dispatch_reads": 6,
    "delivery_reads": 6,
    "dispatch_acts": 3,
    "delivery_acts": 6,
    "call_answered": 12,
    "timer_fires": 2,
    "patient_answers": 2,
    "operator_decides": 2,
    "cancel": 1,
    "duplicate": 2,
    "crash": 1,
    "lease_lost": 2,
    "late_answer": 1,
    "arrives_late": 1,
}


def test_random_walks_meet_everything() -> None:
    met: Counter[str] = Counter()
    for seed in range(WALKS):
        met.update(_walk(Random(seed)))
    ends = {f"closed {outcome.value}" for outcome in Outcome}
    notes = {
        "Disputed",
        "DisputeDecided",
        "Requoted",
        "SettlementUndone",
        "Refunded",
        "Released",
        "DoubtCleared",
        "ClaimUndone",
        "ClaimReduced",
        "MadeGood",
        "PartlyRefunded",
        "Patience",
        "VoucherRefused",
        "VoucherRenewed",
        "KeptRefused",
    }
    missing = {name for name in ends | notes if met[name] == 0}
    assert not missing, (missing, met.most_common())


def _walk(random: Random) -> list[str]:
    road = Road()
    road.begin(
        insured=random.random() < 0.8,
        ceiling=random.choice([50_000, 50_000, 50_000, 0, None]),
        self_pay=random.choice([None, True, False]),
        first=random.choice(["approved"] * 30 + ["rejected", "cancelled"]),
        partly=random.choice(sorted(PARTLY)),
    )
    road.dispatch.last_max = random.choice([0, 1, 2, 3, 3])
    for move in random.choices(list(MOVES), list(MOVES.values()), k=150):
        _move(road, move, random)
        road.closed_at_most_once_and_last()
        road.every_transfer_sums_to_zero()
    road.teardown()
    closed = road.story.of(OrderClosed)[0].outcome.value
    return [f"closed {closed}", *(type(fact).__name__ for fact in road.story.facts)]


def _move(road: Road, move: str, random: Random) -> None:
    match move:
        case "claim_reads":
            road.claim_reads(random.choice(list(road.inbox)))
        case "dispatch_reads":
            road.dispatch_reads(random.choice(list(road.to_dispatch)))
        case "delivery_reads":
            road.delivery_reads(random.choice(list(road.to_delivery)))
        case "delivery_acts":
            road.delivery_acts(random.random() < 0.85)
        case "call_answered" if road.story.calls:
            refused = 6 if road.story.calls[0].kind == "settle" else 1
            outcome = random.choices([DONE, REFUSED, UNKNOWN], [12, refused, 2])[0]
            twist = random.choice(TWISTS if outcome is DONE else TWISTS[2:])
            road.call_answered(outcome, random.random() < 0.5, twist)
        case "timer_fires" if road.story.timers:
            road.timer_fires()
        case "operator_decides" if road.story.state.dispute:
            road.operator_decides(random.choice(list(DisputeDecision)))
        case "patient_answers" if road.story.state.ask:
            road.patient_answers(random.choice([0, 0, 1]))
        case "cancel" if road.approved and road.cancels < CANCELS_MAX and random.random() < 0.4:
            road.cancel(random.choice([CancelCause.PATIENT, CancelCause.EXPIRY]))
        case "duplicate" if road.heard:
            road.duplicate(random.randrange(1_000))
        case "crash":
            road.crash(random.choice(list(road.inbox)))
        case "lease_lost" if road.story.calls:
            road.lease_lost()
        case "late_answer" if road.late:
            road.late_answer()
        case "arrives_late" if road.astray:
            road.arrives_late()
        case "dispatch_acts":
            road.dispatch_acts()
