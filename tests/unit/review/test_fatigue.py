"""Alert fatigue is a defect: how many clean prescriptions are sent to a person.

Clean: drugs for their own indications, within the label, without high-priority pairs, as the
sandbox's hospitals write them for the standard day. On top come facts that a hospital may know of
the person, with assumed prevalence (none of it published for online hospitals; so it says here).
"""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from schemas.prescription import ClinicalPatient
from services.review.rules import Kind, examine, pack
from services.sandbox.days import read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.profile import PROFILES, load
from services.sandbox.scripts import Script, scripts_of
from services.sandbox.world import world_of

SEED, ORDERS = 5, 150
SHARE_MAX = 0.08
# Share of patients: an allergy history on file, eGFR known, renewals of what is taken already.
ALLERGIC, EGFR_KNOWN, RENEWS = 0.08, 0.4, 0.5
ALLERGIES = ("青霉素", "磺胺", "头孢", "花粉", "海鲜")


def clean_scripts(folder: Path) -> list[Script]:
    profile = load(PROFILES / "standard.toml")
    day = read_day(write_day(folder / "day", SEED, orders=ORDERS))
    scripts = scripts_of(world_of(day, profile, SEED), Fates(profile, SEED))
    return [s for s in scripts if s.must_reject is None and not s.seen_by_pharmacist]


def known_of(script: Script, rng: Random) -> ClinicalPatient:
    facts: dict[str, Any] = {"allergies": ("否认",)}
    if rng.random() < ALLERGIC:
        facts["allergies"] = (rng.choice(ALLERGIES),)
    if rng.random() < EGFR_KNOWN:
        facts["egfr"] = Decimal(round(min(120, max(20, rng.gauss(85, 18)))))
    if rng.random() < RENEWS:
        lines = [line for sheet in script.submit.prescriptions for line in sheet.lines]
        facts["current_medication"] = tuple(line.generic_name for line in lines)
    said = script.submit.patient.model_dump()
    return ClinicalPatient.model_validate({**said, **facts, "person_ref": "p"})


def test_few_clean_prescriptions_are_sent_to_a_person(tmp_path: Path) -> None:
    rng, kinds, rules = Random(SEED), Counter[Kind](), Counter[str]()
    for script in clean_scripts(tmp_path):
        patient, sheets = known_of(script, rng), script.submit.prescriptions
        for sheet in sheets:
            verdict = examine(pack(), sheet, patient, script.spec.placed_at, sheets)
            kinds[verdict.kind] += 1
            rules.update(finding.rule_id for finding in verdict.decisive)
    count = sum(kinds.values())
    assert count > 100
    assert 1 - kinds[Kind.PASS] / count <= SHARE_MAX, rules
