"""Why an order went where it went, in words."""

from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.dispatch import GateCount
from schemas.values import GateCode, Tier
from services.dispatch.domain.choose import Candidate, TurnedAway, Why
from services.dispatch.domain.parallel import Beside
from services.dispatch.domain.reasons import (
    GATES,
    SENTENCES,
    STATES,
    Fell,
    Told,
    reasons_of,
    words,
)
from services.kit.spec import NOW
from tests.unit.dispatch.samples import choice, uid

NEAR, FAR = uid(1), uid(2)
WHY = Why(
    (Candidate(NEAR, 300, 970_000, 40_000), Candidate(FAR, 900, 930_000, 90_000)),
    NEAR,
    True,
    (TurnedAway(uid(3), 120, GateCode.INSURER),),
)
AWAY = {
    "en": f"{uid(3)}, 120 m away, was removed by INSURER",
    "zh": f"{uid(3)}（120米）被条件INSURER排除",
}
REMOVED = (GateCount(gate=GateCode.NO_STOCK, removed=7),)


def told(pharmacy: object = FAR, **changes: object) -> Told:
    fields = {
        "number": 1,
        "pharmacy_id": pharmacy,
        "made_at": NOW,
        "state": "accepted",
        "tier": Tier.MIN_30,
        "reasons": reasons_of(WHY, REMOVED),
    }
    return Told.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            [
                "accepted",
                "7 pharmacies do not have every drug",
                "97.0 % on time",
                "2 passed",
                AWAY["en"],
            ],
        ),
        ("zh", ["已接单", "7家缺少部分药品", "准时概率97.0%", "2家通过", AWAY["zh"]]),
    ],
)
def test_gates_scores_and_the_greedy_choice_are_told(language: str, said: list[str]) -> None:
    text = "\n".join(words([told()], language))
    assert all(part in text for part in said)
    assert str(NEAR) in text.splitlines()[-1]
    assert str(NEAR) not in "\n".join(words([told(NEAR)], language)).splitlines()[-1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_nearer_one_that_was_silent_of_late_is_not_called_the_same(language: str) -> None:
    # Who cools down stands behind the others, and is no longer whom greedy takes.
    near, far = WHY.candidates
    cools = replace(WHY, candidates=(far, near), greedy=FAR)
    last = words([told(reasons=reasons_of(cools, REMOVED))], language)[-1]
    assert last == SENTENCES[language]["silent"].format(pharmacy=NEAR)
    asked = words([told(NEAR, reasons=reasons_of(cools, REMOVED))], language)[-1]
    assert asked == SENTENCES[language]["same"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_another_order_is_named_only_where_nothing_was_shared_out(language: str) -> None:
    # The flow may leave a place free for the sake of one that accepts more often.
    shared = words([told()], language)[-1]
    assert shared == SENTENCES[language]["shared"].format(pharmacy=NEAR)
    alone = replace(WHY, solved=False)
    in_turn = words([told(reasons=reasons_of(alone, REMOVED))], language)[-1]
    assert in_turn == SENTENCES[language]["other"].format(pharmacy=NEAR)
    assert shared != in_turn


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_gate_and_state_has_words_in_both_languages(language: str) -> None:
    assert GATES[language].keys() == set(GateCode) - {GateCode.NOT_OFFERED}
    assert STATES[language].keys() == STATES["en"].keys()
    assert SENTENCES[language].keys() == SENTENCES["en"].keys()
    assert len(words([told(reasons=None)], language)) == 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_second_offer_orders_to_come_and_fallen_tiers_are_told_in_their_turn(
    language: str,
) -> None:
    second = reasons_of(WHY, REMOVED, Beside(choice(3), 0.55, 300), foreseen=4)
    offers = [told(), told(number=2, reasons=second)]
    before = Fell(
        tier=Tier.MIN_30, below=Tier.MIN_60, at=NOW, reason=GateCode.SHARE, removed=REMOVED
    )
    after = before.model_copy(update={"below": None, "at": NOW + timedelta(minutes=9)})
    lines = words(offers, language, [after, before])
    assert [n for n, line in enumerate(lines) if "SHARE" in line] == [0, len(lines) - 2]
    assert all(word in lines[0] for word in ("30", "60"))
    text = "\n".join(lines)
    assert text.count(SENTENCES[language]["beside"].format(percent=55, minutes=5)) == 1
    assert text.count(SENTENCES[language]["foreseen"].format(count=4)) == 1
    # Whom greedy would have taken is said of the first of two.
    assert text.count(SENTENCES[language]["shared"].format(pharmacy=NEAR)) == 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_the_patient_chose_is_no_gate_s_doing(language: str) -> None:
    left = Fell(
        tier=Tier.SCHEDULED,
        below=Tier.PICK_UP,
        at=NOW,
        reason=GateCode.CLOSED,
        removed=REMOVED,
        chosen=True,
    )
    (line,) = words([], language, [left])
    assert "CLOSED" not in line
    assert all(word in line for word in ("scheduled", "pick_up"))
    ended = words([], language, [left.model_copy(update={"below": None})])
    plain = words([], language, [left.model_copy(update={"below": None, "chosen": False})])
    assert "CLOSED" in ended[0]
    assert ended[0] != plain[0]
    assert ended[1:] == plain[1:]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_of_more_than_are_kept_none_is_said_not_to_have_passed(language: str) -> None:
    many = replace(WHY, candidates=WHY.candidates * 20)
    lines = words([told(reasons=reasons_of(many, REMOVED))], language)
    say = SENTENCES[language]
    assert say["more"].format(count=24) in lines
    assert say["passed"].format(count=24) not in lines


def test_many_candidates_are_kept_compactly() -> None:
    many = Why(tuple(Candidate(uid(n), n, 1, n) for n in range(99)), uid(0), False)
    kept = reasons_of(many, ())
    assert [one.metres for one in kept.candidates] == list(range(24))
    assert len(kept.model_dump_json()) < 3_000
