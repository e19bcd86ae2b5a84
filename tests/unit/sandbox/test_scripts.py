"""What is submitted: the same bytes for a seed, content that does what it was drawn for."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

from schemas.prescription import ClinicalPatient
from services.prescription.form import order_flaw
from services.review.rules import Kind, Pack, examine, pack
from services.sandbox.days import read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.profile import Profile
from services.sandbox.scripts import CANARY, Script, inputs, inputs_sha256, scripts_of
from services.sandbox.world import World, world_of


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, standard: Profile) -> None:
    def made(seed: int) -> bytes:
        day = read_day(write_day(tmp_path / "d1", 1, orders=40))
        world = world_of(day, standard, seed)
        return b"".join(inputs(world, scripts_of(world, Fates(standard, seed))))

    assert made(11) == made(11)
    assert made(11) != made(12)
    assert inputs_sha256([made(11)]) == inputs_sha256(iter([made(11)[:100], made(11)[100:]]))


def test_every_submission_is_in_form(scripts: list[Script]) -> None:
    for script in scripts:
        assert order_flaw(script.submit, script.spec.placed_at) is None


def test_the_rules_say_what_the_content_was_drawn_for(scripts: list[Script]) -> None:
    rules = pack()
    seen: Counter[str] = Counter()
    for script in scripts:
        kinds = [_verdict(rules, script, n) for n in range(len(script.submit.prescriptions))]
        if script.must_reject:
            assert set(kinds) == {Kind.REJECT}, script.must_reject
        elif script.seen_by_pharmacist:
            assert kinds[0] is Kind.LOOK
            assert set(kinds[1:]) <= {Kind.PASS}
        else:
            assert set(kinds) == {Kind.PASS}
        seen[script.must_reject or ("seen" if script.seen_by_pharmacist else "plain")] += 1
    assert set(seen) == {"six_drugs", "first_visit", "banned_online", "seen", "plain"}


def _verdict(rules: Pack, script: Script, n: int) -> Kind:
    patient = script.submit.patient
    clinical = ClinicalPatient(
        birth_date=patient.birth_date,
        sex=patient.sex,
        guardian_present=patient.guardian_present,
        specialist_present=patient.specialist_present,
        allergies=patient.allergies,
        person_ref="x",
    )
    sheet = script.submit.prescriptions[n]
    return examine(rules, sheet, clinical, script.spec.placed_at + timedelta(minutes=1)).kind


def test_the_mix_is_that_of_the_profile(scripts: list[Script], standard: Profile) -> None:
    count = len(scripts)

    def share(hits: int) -> float:
        return hits / count

    orders = standard.orders
    assert abs(share(sum(s.insured for s in scripts)) - orders.insured) < 0.04
    assert abs(share(sum(s.seen_by_pharmacist for s in scripts)) - 0.2) < 0.04
    assert abs(share(sum(s.must_reject is not None for s in scripts)) - 0.01) < 0.01
    assert abs(share(sum(s.cancel_at is not None for s in scripts)) - 0.03) < 0.02
    sheets = Counter(len(s.submit.prescriptions) for s in scripts)
    assert abs(share(sheets[1]) - orders.prescriptions[1]) < 0.04
    assert sheets[3] > 0


def test_cancellations_fall_within_half_an_hour(scripts: list[Script]) -> None:
    waits = [s.cancel_at - s.spec.placed_at for s in scripts if s.cancel_at]
    assert waits
    assert all(timedelta(0) <= wait < timedelta(minutes=30) for wait in waits)
    assert max(waits) > timedelta(minutes=20)


def test_an_order_holds_a_product_once(scripts: list[Script]) -> None:
    for script in scripts:
        codes = script.product_codes()
        assert len(codes) == len(set(codes))


def test_personal_strings_carry_the_canary(scripts: list[Script]) -> None:
    for script in scripts[:50]:
        patient, place = script.submit.patient, script.submit.delivery
        for text in (patient.name, patient.phone, patient.certificate_number, place.address):
            assert text.startswith(CANARY)
        others = script.submit.model_dump_json(exclude={"patient", "delivery"})
        assert CANARY not in others


def test_a_person_is_one_order(scripts: list[Script]) -> None:
    people = {script.submit.patient.certificate_number for script in scripts}
    assert len(people) == len(scripts)


def test_uninsured_patients_pay_themselves(world: World, scripts: list[Script]) -> None:
    uninsured = [script for script in scripts if not script.insured]
    assert uninsured
    assert all(script.submit.consent.self_pay for script in uninsured)
    unwilling = [s for s in scripts if s.insured and s.submit.consent.self_pay is False]
    assert unwilling
