"""What the sandbox expects of review is what the rules really say of what it submits."""

from pathlib import Path

from schemas.prescription import ClinicalPatient
from services.prescription.form import order_flaw
from services.review.rules import Kind, chosen, examine, pack
from services.sandbox.days import read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.profile import PROFILES, load
from services.sandbox.scripts import Script, scripts_of
from services.sandbox.world import world_of

SEED = 11


def said_of(script: Script) -> set[Kind]:
    """The rules' words on all sheets of one order, at the moment it is placed."""
    patient = ClinicalPatient(**script.submit.patient.model_dump(), person_ref="")
    sheets = script.submit.prescriptions
    return {examine(pack(), sheet, patient, script.spec.placed_at).kind for sheet in sheets}


def expected_of(script: Script) -> Kind:
    if script.must_reject is not None:
        return Kind.REJECT
    return Kind.LOOK if script.seen_by_pharmacist else Kind.PASS


def test_the_rules_agree_with_the_sandbox(tmp_path: Path) -> None:
    profile = load(PROFILES / "standard.toml")
    day = read_day(write_day(tmp_path / "day", SEED, orders=600))
    scripts = scripts_of(world_of(day, profile, SEED), Fates(profile, SEED))
    # Nothing that the sandbox submits goes back to the doctor by rule alone.
    assert {expected_of(script) for script in scripts} == set(Kind) - {Kind.RETURN}
    cities = {script.submit.city for script in scripts}
    assert all(chosen(city, "").desk.auto_pass for city in cities)
    for script in scripts:
        assert order_flaw(script.submit, script.spec.placed_at) is None
        said, expected = said_of(script), expected_of(script)
        if expected is Kind.LOOK:
            assert said <= {Kind.LOOK, Kind.PASS}
            assert Kind.LOOK in said
        else:
            assert said == {expected}
