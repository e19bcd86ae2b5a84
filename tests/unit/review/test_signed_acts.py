"""A pharmacist's act under the test authority: what holds, what is refused, and by which name."""

import base64
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.prescription import SignatureInput
from schemas.review import DecideCase
from schemas.signing import acted_text
from services.kit.decision import Facts
from services.kit.spec import NOW, facts_for
from services.review.domain.acts import Beside, seen
from services.review.domain.state import PersonDecided
from services.review.rules import Pack
from services.review.rules.case import UNPROVED
from services.review.rules.shelf import Packs, installed, stand
from services.review.trust import X509Profile, proof_of_act
from services.sandbox import authority
from tests.unit.review.examples import (
    LEASE,
    REVIEWERS,
    AtDesk,
    choice,
    desk,
    doubtful,
    in_review,
    rules,
    take,
)
from tests.unit.review.test_trust import profile

__all__ = ["profile"]

LICENCE = authority.PHARMACIST


@pytest.fixture
def signed_only() -> Iterator[None]:
    content = rules().content
    stand(Packs((Pack({**content, "desk": {**content["desk"], "signed_acts": True}}),), {}, {}))
    yield
    stand(installed())


def at_hand() -> AtDesk:
    return in_review(doubtful()).and_when(take(LICENCE), facts=desk())


def signed(case: AtDesk, at: datetime = NOW, by: str = LICENCE, **changes: Any) -> DecideCase:
    """An approval of what lies there, signed by somebody; `changes` are made afterwards."""
    bare = choice("approve", pharmacist=LICENCE, seen=seen(case.state.sheets[0]))
    value = authority.person(by).key.sign(acted_text(bare, at))
    signature = SignatureInput(
        signer=by,
        algorithm="ed25519",
        value=base64.b64encode(value).decode(),
        signed_at=at,
        certificates=authority.person(by).certificates,
    )
    return bare.model_copy(update={"signature": signature, **changes})


def proved(profile: X509Profile, command: DecideCase) -> Facts:
    found = proof_of_act(profile, command, NOW)
    return facts_for(ids=[LEASE] * 8, actor=REVIEWERS, found=Beside(found))


@pytest.mark.usefixtures("signed_only")
def test_a_signature_that_holds_is_told_with_the_act(profile: X509Profile) -> None:
    case = at_hand()
    command = signed(case)
    outcome = case.and_when(command, facts=proved(profile, command))
    note = outcome.decision.events[0]
    assert isinstance(note, PersonDecided)
    assert note.act.proved


@pytest.mark.usefixtures("signed_only")
def test_where_they_are_wanted_none_and_an_unproved_one_are_refused(profile: X509Profile) -> None:
    case = at_hand()
    bare = choice("approve", pharmacist=LICENCE)
    case.and_when(bare, facts=desk()).then_invalid("signature_missing")
    case.and_when(signed(case), facts=desk()).then_invalid("signature_unproved")


Spoil = Callable[[AtDesk], DecideCase]


@pytest.mark.parametrize(
    ("spoil", "code", "detail"),
    [
        (lambda case: signed(case, reason="another"), "signature_refused", "signature_broken"),
        (lambda case: signed(case, by=authority.DOCTOR), "signature_refused", "in person"),
        (
            lambda case: signed(case, at=NOW - timedelta(minutes=6)),
            "signature_refused",
            "as it is done",
        ),
    ],
)
def test_a_wrong_one_is_refused_even_where_none_is_wanted(
    profile: X509Profile, spoil: Spoil, code: str, detail: str
) -> None:
    case = at_hand()
    command = spoil(case)
    refused = case.and_when(command, facts=proved(profile, command)).then_invalid(code)
    assert detail in refused.decision.detail


def test_a_licence_that_nobody_knows_is_refused(tmp_path: Path, profile: X509Profile) -> None:
    case = at_hand()
    command = signed(case)
    stranger = X509Profile(profile.anchors, profile.crls, {})
    refused = case.and_when(command, facts=proved(stranger, command))
    assert refused.then_invalid("licence_refused").decision.detail == "licence_unknown"


def test_where_nobody_proves_an_act_counts_as_unproved() -> None:
    case = at_hand()
    outcome = case.and_when(signed(case), facts=desk())
    note = outcome.decision.events[0]
    assert isinstance(note, PersonDecided)
    assert not note.act.proved


def test_what_came_without_a_signature_proves_nothing(profile: X509Profile) -> None:
    assert proof_of_act(profile, choice("approve"), NOW) == UNPROVED
