"""Why this pharmacy: kept with the offer, told in words. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.dispatch import GateCount
from schemas.values import GateCode, Tier
from services.dispatch.domain.choose import Why
from services.dispatch.domain.parallel import Beside

# Of those who passed so many are kept; the others were farther away.
KEPT = 24


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Candidate(_Part):
    """One who passed every gate. Cost in millionths of an order: what is likely to be lost."""

    pharmacy_id: UUID
    metres: int
    on_time_ppm: int
    cost: int


class TurnedAway(_Part):
    """One of the nearest that deliver there, and the gate that removed it."""

    pharmacy_id: UUID
    metres: int
    gate: GateCode


class Second(_Part):
    """Why two were asked at once: how often the first accepts, and the time left to try others."""

    accepts_ppm: int
    slack_s: int


class Reasons(_Part):
    """What the tick knew of one order, and what it did with it.

    `removed` counts those whom each gate removed, in the order of the gates. `shared` tells
    whether the places did not suffice for all, so that the optimiser shared them out. `foreseen`
    counts the orders still in review or claim that were reckoned with.
    """

    candidates: tuple[Candidate, ...]
    greedy: UUID | None
    shared: bool
    removed: tuple[GateCount, ...] = ()
    turned_away: tuple[TurnedAway, ...] = ()
    beside: Second | None = None
    foreseen: int = 0


class Told(_Part):
    """One offer with its reasons, as its row says."""

    number: int
    pharmacy_id: UUID
    made_at: datetime
    state: str
    tier: Tier
    reasons: Reasons | None


class Fell(_Part):
    """A tier that an order left for the one below, or ended on; why, and what each gate removed.

    `chosen` where the patient's answer did it.
    """

    tier: Tier
    below: Tier | None
    at: datetime
    reason: GateCode
    removed: tuple[GateCount, ...]
    chosen: bool = False


def reasons_of(
    why: Why, removed: Sequence[GateCount], beside: Beside | None = None, foreseen: int = 0
) -> Reasons:
    """The compact form of what the choice was made of; `beside` for a second offer alone."""
    return Reasons(
        candidates=tuple(
            Candidate(
                pharmacy_id=one.pharmacy_id,
                metres=one.metres,
                on_time_ppm=one.on_time_ppm,
                cost=one.cost,
            )
            for one in why.candidates[:KEPT]
        ),
        greedy=why.greedy,
        shared=why.solved,
        removed=tuple(removed),
        turned_away=tuple(TurnedAway(**one._asdict()) for one in why.turned_away),
        beside=None
        if beside is None
        else Second(accepts_ppm=round(1e6 * beside.accepts), slack_s=beside.slack_s),
        foreseen=foreseen,
    )


GATES: Mapping[str, Mapping[GateCode, str]] = {
    "en": {
        GateCode.NO_COVERAGE: "do not deliver to this place",
        GateCode.CLOSED: "close before the promised time or are closed",
        GateCode.NO_PHARMACIST: "have no licensed pharmacist for it",
        GateCode.NO_STOCK: "do not have every drug",
        GateCode.INSURER: "may not serve insured orders",
        GateCode.COLD_CHAIN: "have no cold chain",
        GateCode.SHARE: "cost more than the patient accepts to pay",
        GateCode.CAPACITY: "have no free place in these ten minutes",
        GateCode.REFUSED: "had refused this order or let it lapse",
    },
    "zh": {
        GateCode.NO_COVERAGE: "家不配送到该地点",
        GateCode.CLOSED: "家已打烊或在承诺时间前打烊",
        GateCode.NO_PHARMACIST: "家没有可调配的执业药师在岗",
        GateCode.NO_STOCK: "家缺少部分药品",
        GateCode.INSURER: "家不是医保定点",
        GateCode.COLD_CHAIN: "家没有冷链",
        GateCode.SHARE: "家的价格超出患者接受的自付金额",
        GateCode.CAPACITY: "家本十分钟内已满",
        GateCode.REFUSED: "家已拒绝该订单或未应答",
    },
}
STATES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "open": "waits for an answer",
        "accepted": "accepted",
        "declined": "refused",
        "expired": "nobody answered",
        "withdrawn": "taken back",
        "released": "given back after acceptance",
    },
    "zh": {
        "open": "等待应答",
        "accepted": "已接单",
        "declined": "已拒绝",
        "expired": "超时未应答",
        "withdrawn": "已撤回",
        "released": "接单后退回",
    },
}


SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "offer": "Offer {number}, tier {tier}, to {pharmacy}: {state}.",
        "left": "Tier {tier} was left for tier {below}: nobody remained behind {gate}.",
        "ended": "The search ended on tier {tier}: nobody remained behind {gate}.",
        "left_chosen": "Tier {tier} was left for tier {below}: the patient chose it.",
        "ended_chosen": "The search ended on tier {tier}: nobody remained behind {gate}, "
        "and the patient agreed to no other time.",
        "unknown": "  Why was not kept: the offer is older than this record.",
        "gate": "  {removed} pharmacies {gate}.",
        "away": "  {pharmacy}, {metres} m away, was removed by {gate}.",
        "passed": "  {count} passed every gate.",
        "more": "  {count} of the nearest passed every gate; farther ones may have, too.",
        "one": "  {mark} {pharmacy}: {metres} m, {percent:.1f} % on time, cost {cost}",
        "same": "  The nearest would have been the same.",
        "other": "  The nearest was {pharmacy}; what it had left went to an order before this one.",
        "shared": "  The nearest was {pharmacy}; places were shared out so that over all orders "
        "the least is lost.",
        "silent": "  The nearest was {pharmacy}, which left its last offers unanswered and is "
        "asked last.",
        "foreseen": "  {count} orders still in review or claim were reckoned with.",
        "beside": "  Made at the same time as the offer before it: that pharmacy accepts "
        "{percent:.0f} % of its offers, and {minutes:.0f} minutes were left to ask another one. "
        "Who accepts first has the order.",
    },
    "zh": {
        "offer": "第{number}次派单（{tier}档）→ {pharmacy}：{state}。",
        "left": "{tier}档改为{below}档：经条件{gate}后已无药店。",
        "ended": "{tier}档派单结束：经条件{gate}后已无药店。",
        "left_chosen": "{tier}档改为{below}档：由患者选择。",
        "ended_chosen": "{tier}档派单结束：经条件{gate}后已无药店，患者未同意其他时间。",
        "unknown": "  该派单早于本记录，未保存原因。",
        "gate": "  {removed}{gate}。",
        "away": "  {pharmacy}（{metres}米）被条件{gate}排除。",
        "passed": "  {count}家通过全部条件。",
        "more": "  最近的药店中{count}家通过全部条件，更远的也可能通过。",
        "one": "  {mark} {pharmacy}：{metres}米，准时概率{percent:.1f}%，代价{cost}",
        "same": "  最近的药店也是这家。",
        "other": "  最近的是{pharmacy}，其余量已给了前面的订单。",
        "shared": "  最近的是{pharmacy}；名额已在全部订单间统筹，使总体损失最小。",
        "silent": "  最近的是{pharmacy}，近期连续未应答，排在最后。",
        "foreseen": "  已计入仍在审方或医保环节的{count}单。",
        "beside": "  与前一派单同时发出：前一药店的接单率约{percent:.0f}%，"
        "只剩{minutes:.0f}分钟可另寻药店；先接单者得。",
    },
}


def words(offers: Sequence[Told], language: str, falls: Sequence[Fell] = ()) -> list[str]:
    """Sentences, in the order in which it happened; zh or en."""
    language = "zh" if language == "zh" else "en"
    parts = [(fell.at, 0, _fell(fell, language)) for fell in falls]
    parts += [(told.made_at, 1, _told(told, language)) for told in offers]
    return [line for _, _, part in sorted(parts, key=lambda part: part[:2]) for line in part]


def _fell(fell: Fell, language: str) -> Iterator[str]:
    below = fell.below.value if fell.below else ""
    what = ("left" if below else "ended") + ("_chosen" if fell.chosen else "")
    sentence = SENTENCES[language][what]
    yield sentence.format(tier=fell.tier.value, below=below, gate=fell.reason.value)
    if not (fell.chosen and below):
        yield from _removed(fell.removed, language)


def _removed(counts: Sequence[GateCount], language: str) -> Iterator[str]:
    for count in counts:
        gate = GATES[language].get(count.gate, count.gate.value)
        yield SENTENCES[language]["gate"].format(removed=count.removed, gate=gate)


def _told(told: Told, language: str) -> Iterator[str]:
    say, reasons = SENTENCES[language], told.reasons
    state = STATES[language].get(told.state, told.state)
    yield say["offer"].format(
        number=told.number, tier=told.tier.value, pharmacy=told.pharmacy_id, state=state
    )
    if reasons is None:
        yield say["unknown"]
        return
    if (second := reasons.beside) is not None:
        percent, minutes = second.accepts_ppm / 10_000, second.slack_s / 60
        yield say["beside"].format(percent=percent, minutes=minutes)
    yield from _removed(reasons.removed, language)
    for turned in reasons.turned_away[:3]:
        yield say["away"].format(
            pharmacy=turned.pharmacy_id, metres=turned.metres, gate=turned.gate.value
        )
    if reasons.foreseen:
        yield say["foreseen"].format(count=reasons.foreseen)
    count = len(reasons.candidates)
    yield say["passed" if count < KEPT else "more"].format(count=count)
    for one in reasons.candidates[:3]:
        yield say["one"].format(
            mark="*" if one.pharmacy_id == told.pharmacy_id else " ",
            pharmacy=one.pharmacy_id,
            metres=one.metres,
            percent=one.on_time_ppm / 10_000,
            cost=one.cost,
        )
    if reasons.beside is None and reasons.candidates:
        yield _nearest(told.pharmacy_id, reasons, say)


def _nearest(chosen: UUID, reasons: Reasons, say: Mapping[str, str]) -> str:
    """Why not the nearest: who is silent stands behind the others, so greedy leaves it out too."""
    nearest = min(reasons.candidates, key=lambda one: one.metres).pharmacy_id
    if nearest == chosen:
        return say["same"]
    told = "silent" if nearest != reasons.greedy else "shared" if reasons.shared else "other"
    return say[told].format(pharmacy=nearest)
