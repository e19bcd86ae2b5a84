"""Signatures under the sandbox's authority: what is proved, and what each flaw is called."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ReasonFlags

from schemas.prescription import (
    ClinicalOrder,
    CorrectPrescription,
    SheetInput,
    Signature,
    SubmitOrder,
)
from services.kit.ids import new_id
from services.kit.spec import NOW, facts_for, given
from services.review import domain, trust
from services.review.domain.reading import Known
from services.review.domain.state import Step
from services.review.rules.case import Proof
from services.review.trust import TrustError, TrustWatch, X509Profile, proofs_of, x509_profile
from services.sandbox import authority
from services.sandbox.days import read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.profile import PROFILES, load
from services.sandbox.scripts import scripts_of
from services.sandbox.world import world_of
from tests.unit.prescription.examples import clinical, issued, line, sheet, submission

DAY = timedelta(days=1)
DOCTOR, PHARMACIST = authority.DOCTOR, authority.PHARMACIST
AT = NOW - timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _nobody_stands() -> Iterator[None]:
    yield
    trust.stand(None)


def folder(where: Path, **files: bytes) -> Path:
    """The sandbox's trust, with some files changed (dots of their names left out)."""
    where.mkdir(exist_ok=True)
    changed = {name.replace("_", "."): data for name, data in files.items()}
    for name, data in {**authority.trust_files(), **changed}.items():
        (where / name).write_bytes(data)
    return where


@pytest.fixture
def profile(tmp_path: Path) -> X509Profile:
    return x509_profile(folder(tmp_path / "trust"))


def written(**changes: Any) -> ClinicalOrder:
    """A prescription signed by both; `changes` are made afterwards to the doctor's signature."""
    made = clinical(submission(signed_sheet()))
    (only,) = made.prescriptions
    prescriber = only.prescriber.model_copy(update=changes)
    return made.model_copy(
        update={"prescriptions": (only.model_copy(update={"prescriber": prescriber}),)}
    )


def signed_sheet(licence: str = DOCTOR, at: datetime = AT, **how: Any) -> dict[str, Any]:
    bare = SheetInput.model_validate(sheet(1, line("metformin")))
    parts = {
        "prescriber": authority.signed(bare, licence, at, "1980-05-17", "1", **how),
        "pharmacist": authority.signed(bare, PHARMACIST, at, "1980-05-17", "1"),
    }
    return bare.model_copy(update=parts).model_dump(mode="json")


def proof(profile: X509Profile, order: ClinicalOrder, now: datetime = NOW) -> Proof:
    (found,) = proofs_of(profile, order, order.prescriptions, now).values()
    return found.prescriber


def signed_as(profile: X509Profile, licence: str = DOCTOR, **how: Any) -> Proof:
    """What is proved of a doctor's signature that was made in another way."""
    return proof(profile, clinical(submission(signed_sheet(licence, **how))))


def test_both_signatures_are_proved(profile: X509Profile) -> None:
    order = written()
    (both,) = proofs_of(profile, order, order.prescriptions, NOW).values()
    rights = frozenset({"antibacterial_restricted", "antibacterial_non_restricted"})
    assert both.prescriber == Proof(True, "", True, "", rights)
    assert both.pharmacist == Proof(True, "", True, "", frozenset())


@pytest.mark.parametrize(
    ("change", "flaw", "genuine"),
    [
        ({"certificates": ()}, "certificate_missing", None),
        ({"algorithm": "sm2-sm3"}, "algorithm_not_offered", None),
        ({"certificates": ("bm8gY2VydGlmaWNhdGU=",)}, "certificate_unreadable", False),
        ({"signer": "D-999"}, "another_person", False),
        ({"value": "A" * 88}, "signature_broken", False),
        ({"value": "no base64, for sure"}, "signature_broken", False),
        ({"signed_at": AT + timedelta(seconds=1)}, "signature_broken", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_changed_after_signing(
    profile: X509Profile, change: dict[str, Any], flaw: str, genuine: bool | None
) -> None:
    found = proof(profile, written(**change))
    assert (found.genuine, found.flaw) == (genuine, flaw)


def test_another_text_or_person_breaks_it(profile: X509Profile) -> None:
    order = written()
    (only,) = order.prescriptions
    (drug,) = only.lines
    more = only.model_copy(update={"lines": (drug.model_copy(update={"quantity": 9}),)})
    other = order.patient.model_copy(update={"birth_date": "1980-05-18"})
    for changed in ({"prescriptions": (more,)}, {"patient": other}):
        assert proof(profile, order.model_copy(update=changed)).flaw == "signature_broken"


@pytest.mark.parametrize(
    ("since", "until", "flaw"),
    [
        (AT, AT + DAY, ""),
        (AT + timedelta(seconds=1), AT + DAY, "certificate_not_yet_valid"),
        (AT - DAY, AT + timedelta(seconds=1), ""),
        (AT - DAY, AT, "certificate_expired"),
    ],
    ids=["from the second on", "a second too early", "to the second", "a second too late"],
)
def test_the_moment_of_signing_counts(
    profile: X509Profile, since: datetime, until: datetime, flaw: str
) -> None:
    holder = authority.person(DOCTOR, since, until)
    assert signed_as(profile, holder=holder).flaw == flaw


@pytest.mark.parametrize(
    ("at", "reason", "flaw"),
    [
        (AT, ReasonFlags.cessation_of_operation, "certificate_revoked"),
        (AT + timedelta(seconds=1), ReasonFlags.cessation_of_operation, ""),
        (AT + timedelta(seconds=1), ReasonFlags.key_compromise, "certificate_revoked"),
    ],
    ids=["before", "afterwards", "afterwards, the key stolen"],
)
def test_revoked(tmp_path: Path, at: datetime, reason: ReasonFlags, flaw: str) -> None:
    serial = authority.person(DOCTOR).chain[0].serial_number
    lists = authority.revoked_list(authority.root())
    lists += authority.revoked_list(authority.hospitals(), {serial: (at, reason)})
    found = proof(x509_profile(folder(tmp_path / "trust", revoked_pem=lists)), written())
    assert found.flaw == flaw


def test_a_revoked_authority_certifies_nobody(tmp_path: Path) -> None:
    serial = authority.hospitals().chain[0].serial_number
    taken = {serial: (AT - DAY, ReasonFlags.superseded)}
    lists = authority.revoked_list(authority.root(), taken)
    lists += authority.revoked_list(authority.hospitals())
    found = proof(x509_profile(folder(tmp_path / "trust", revoked_pem=lists)), written())
    assert (found.genuine, found.flaw) == (False, "certificate_revoked")


def test_without_a_list_in_force_nothing_is_proved(tmp_path: Path, profile: X509Profile) -> None:
    lists = authority.revoked_list(authority.root())
    bare = x509_profile(folder(tmp_path / "trust", revoked_pem=lists))
    assert proof(bare, written()).genuine is None
    assert proof(bare, written()).flaw == "revocation_unknown"
    assert proof(profile, written(), authority.ENDS + DAY).flaw == "revocation_unknown"


def test_whom_nobody_trusts(tmp_path: Path, profile: X509Profile) -> None:
    another = authority.hospitals().chain[0].public_bytes(Encoding.PEM)
    stranger = x509_profile(folder(tmp_path / "trust", anchors_pem=another))
    assert proof(stranger, written()).flaw == "chain_untrusted"
    certificates = authority.person(DOCTOR).certificates
    assert proof(profile, written(certificates=certificates[:1])).flaw == "chain_untrusted"
    # Somebody who is certified himself may not certify others.
    leaf = authority.person(PHARMACIST)
    own = authority._certificate(
        authority._name("x", DOCTOR), leaf.key, leaf.chain[0].subject, leaf.key,
        authority.BORN, authority.ENDS, authority=None,
    )  # fmt: skip
    holder = authority.Holder(leaf.key, (own, *leaf.chain))
    assert signed_as(profile, holder=holder).flaw == "chain_untrusted"


def test_an_authority_signs_no_prescription(profile: X509Profile) -> None:
    found = signed_as(profile, holder=authority.hospitals())
    assert found.flaw == "certificate_not_for_signing"


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        ({"since": AT.isoformat()}, ""),
        ({"since": (AT + timedelta(seconds=1)).isoformat()}, "licence_not_yet_valid"),
        ({"until": (AT + timedelta(seconds=1)).isoformat()}, ""),
        ({"until": AT.isoformat()}, "licence_expired"),
        ({"suspended": [{"since": AT.isoformat()}]}, "licence_suspended"),
        ({"suspended": [{"since": (AT - DAY).isoformat(), "until": AT.isoformat()}]}, ""),
        ({"role": "pharmacist"}, "licence_of_another_profession"),
        ({"licence": "D-2"}, "licence_unknown"),
    ],
)
def test_the_licence_when_signing(tmp_path: Path, entry: dict[str, Any], flaw: str) -> None:
    since = authority.BORN.isoformat()
    row = {"licence": DOCTOR, "role": "prescriber", "since": since, **entry}
    found = proof(
        x509_profile(folder(tmp_path / "trust", register_json=authority.register([row]))), written()
    )
    assert (found.licensed, found.licence_flaw) == (not flaw, flaw)
    assert found.genuine is True


def test_a_right_lasts_as_long_as_it_was_granted(tmp_path: Path) -> None:
    since, right = authority.BORN.isoformat(), "antibacterial_restricted"
    cases = ((AT, frozenset[str]()), (AT + timedelta(seconds=1), frozenset({right})))
    for until, rights in cases:
        granted = [{"right": right, "since": since, "until": until.isoformat()}]
        row = {"licence": DOCTOR, "role": "prescriber", "since": since, "rights": granted}
        files = folder(tmp_path / "trust", register_json=authority.register([row]))
        assert proof(x509_profile(files), written()).rights == rights


@pytest.mark.parametrize(
    ("change", "step", "rule", "code"),
    [
        ({}, Step.APPROVED, None, None),
        ({"value": "A" * 88}, Step.REJECTED, "S-chain", "1-2"),
        ({"certificates": ()}, Step.PERSON, "S-chain", "1-2"),
    ],
    ids=["genuine", "forged", "no chain"],
)
def test_what_becomes_of_it(
    profile: X509Profile, change: dict[str, Any], step: Step, rule: str | None, code: str | None
) -> None:
    order = written(**change)
    proofs = proofs_of(profile, order, order.prescriptions, NOW)
    facts = facts_for(found=Known(order, "p", (), proofs))
    (read_,) = given(domain).when(issued(submission()), facts=facts).state.sheets
    assert read_.step is step
    assert {(r.rule_id, r.code) for r in read_.reasons} == ({(rule, code)} if rule else set())


def test_what_the_sandbox_submits_is_proved_after_its_way(
    profile: X509Profile, tmp_path: Path
) -> None:
    """Over HTTP as JSON, then sealed as JSON again; and its corrections."""
    profile_of_day = load(PROFILES / "standard.toml")
    day = read_day(write_day(tmp_path / "day", 1, orders=12))
    scripts = scripts_of(world_of(day, profile_of_day, 1), Fates(profile_of_day, 1))
    for script in scripts:
        at = script.spec.placed_at
        sent = SubmitOrder.model_validate_json(script.submit.model_dump_json())
        first = sent.prescriptions[0]
        fixed = script.correction(new_id(), first.prescription_id, 2, at).model_dump_json()
        newer = CorrectPrescription.model_validate_json(fixed).prescription
        order = clinical(sent).model_copy(update={"prescriptions": (*sent.prescriptions, newer)})
        order = ClinicalOrder.model_validate_json(order.model_dump_json())
        assert order.prescriptions[-1].version == 2
        for found in order.prescriptions:
            (both,) = proofs_of(profile, order, (found,), at).values()
            assert both.pharmacist is not None
            for one in (both.prescriber, both.pharmacist):
                assert (one.genuine, one.licensed) == (True, True), one


def test_the_instance_of_the_sandbox_trusts_it() -> None:
    there = Path(authority.__file__).parents[1] / "local" / "synthetic_trust"
    assert {file.name: file.read_bytes() for file in there.iterdir()} == authority.trust_files()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("register_json", b"[]", "register.json"),
        ("register_json", b'{"professionals": [{"licence": "D"}]}', "professionals.0"),
        (
            "anchors_pem",
            b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----",
            "anchors.pem",
        ),
        ("revoked_pem", b"-----BEGIN X509 CRL-----\nx\n-----END X509 CRL-----", "revoked.pem"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(TrustError, match=said):
        x509_profile(folder(tmp_path / "trust", **{name: data}))


def test_a_folder_is_read_anew_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    watch = TrustWatch(tmp_path / "trust")
    assert not watch.look()
    assert trust.standing() is None
    folder(tmp_path / "trust")
    assert watch.look()
    before = trust.standing()
    assert isinstance(before, X509Profile)
    (tmp_path / "trust" / "register.json").write_bytes(b"{")
    assert not watch.look()
    assert "register.json" in watch.refused
    assert trust.standing() is before


def test_where_nothing_stood_a_wrong_folder_proves_nothing(tmp_path: Path) -> None:
    assert not TrustWatch(folder(tmp_path / "trust", register_json=b"{")).look()
    profile = trust.standing()
    assert profile is not None
    order = written()
    (found,) = proofs_of(profile, order, order.prescriptions, NOW).values()
    assert found.prescriber == Proof(None, "trust_unreadable")


class Elsewhere:
    """Another way to prove signatures, as a package of its own offers it."""

    def __init__(self, where: Path) -> None:
        self.word = (where / "word").read_text("utf-8")
        if not self.word:
            raise LookupError("a word that says nothing")

    def prove(self, signature: Signature, text: bytes, role: str, now: datetime) -> Proof:
        """Whoever signs with the word of the folder."""
        return Proof(signature.value == self.word)


class Offered(NamedTuple):
    """As an installed package's entry point."""

    name: str

    def load(self) -> type[Elsewhere]:
        """What it names."""
        return Elsewhere


def test_a_profile_of_another_package_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "entry_points", lambda group: [Offered(f"{group}-elsewhere")])
    where = folder(tmp_path / "trust", profile=b"yaoda.signatures-elsewhere\n")
    watch = TrustWatch(where)
    assert not watch.look()
    assert "word" in watch.refused
    (where / "word").write_text("", "utf-8")
    assert not watch.look()
    assert (
        watch.refused
        == "profile: yaoda.signatures-elsewhere: LookupError: a word that says nothing"
    )
    (where / "word").write_text("c29tZXRoaW5n", "utf-8")
    assert watch.look()
    assert watch.version == "Elsewhere"
    order, found = written(value="c29tZXRoaW5n"), trust.standing()
    assert found is not None
    (proved,) = proofs_of(found, order, order.prescriptions, NOW).values()
    assert (proved.prescriber, proved.pharmacist) == (Proof(True), Proof(False))
    (where / "profile").write_bytes(b"nobody offers this")
    assert not watch.look()
    assert "no profile 'nobody offers this' is installed; there is x509" in watch.refused
    assert trust.standing() is found
    (where / "profile").write_bytes(b"x509")
    assert watch.look()
    assert isinstance(trust.standing(), X509Profile)


class Broken:
    """A package with a fault of its own."""

    def prove(self, signature: Signature, text: bytes, role: str, now: datetime) -> Proof:
        """Never comes so far."""
        raise ZeroDivisionError


def test_a_profile_that_breaks_proves_nothing_and_stops_nothing() -> None:
    order = written()
    (found,) = proofs_of(Broken(), order, order.prescriptions, NOW).values()
    assert found.prescriber == found.pharmacist == Proof(None, "profile_failed")
