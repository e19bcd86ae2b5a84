"""Each flaw of a submission is refused, and the refusal names the field."""

from datetime import timedelta
from typing import Any

import pytest

from services.kit.spec import NOW, given
from services.prescription import domain
from services.prescription.form import order_flaw
from tests.unit.prescription.examples import (
    line,
    sheet,
    signature,
    submission,
    submission_body,
    submit_facts,
)

PATIENT: dict[str, Any] = submission_body()["patient"]
LATE = NOW - timedelta(days=3)

FLAWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "risk notice": (
        {"consent": {"risk_notice_confirmed": False}},
        "risk_notice_unconfirmed",
        "consent.risk_notice_confirmed",
    ),
    "no voucher, no self-pay": (
        {"voucher": None, "consent": {"risk_notice_confirmed": True, "self_pay": False}},
        "voucher_missing",
        "voucher",
    ),
    "a birth date of no calendar": (
        {"patient": {**PATIENT, "birth_date": "2001-02-29"}},
        "bad_date",
        "patient.birth_date",
    ),
    "born tomorrow": (
        {"patient": {**PATIENT, "birth_date": "2026-03-04"}},
        "bad_date",
        "patient.birth_date",
    ),
    "a prescription twice": (
        {"prescriptions": [sheet(1), sheet(1)]},
        "prescription_repeated",
        "prescriptions.1.prescription_id",
    ),
    "issued in the future": (
        {"prescriptions": [sheet(1, at=NOW + timedelta(minutes=5, seconds=1))]},
        "issued_in_future",
        "prescriptions.0.issued_at",
    ),
    "no longer in force": (
        {"prescriptions": [sheet(1), sheet(2, at=LATE - timedelta(seconds=1))]},
        "prescription_expired",
        "prescriptions.1.issued_at",
    ),
    "written by software": (
        {"prescriptions": [sheet(1, prescriber=signature(automatic=True))]},
        "automatic_signature",
        "prescriptions.0.prescriber.automatic",
    ),
    "reviewed by software": (
        {"prescriptions": [sheet(1, pharmacist=signature("P-1", automatic=True))]},
        "automatic_signature",
        "prescriptions.0.pharmacist.automatic",
    ),
    "signed in the future": (
        {"prescriptions": [sheet(1, prescriber=signature(at=NOW + timedelta(minutes=7)))]},
        "signed_in_future",
        "prescriptions.0.prescriber.signed_at",
    ),
    "one person twice": (
        {"prescriptions": [sheet(1, pharmacist=signature("D-1"))]},
        "one_person_signed_twice",
        "prescriptions.0.pharmacist.signer",
    ),
    "a drug nobody knows": (
        {"prescriptions": [sheet(1, line(), line(product_code="XUNKNOWN0001"))]},
        "unknown_product",
        "prescriptions.0.lines.1.product_code",
    ),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_refused_and_named(name: str) -> None:
    changes, code, field = FLAWS[name]
    command = submission(**changes)
    outcome = given(domain).when(command, facts=submit_facts(command)).then_invalid(code)
    assert (outcome.decision.field, outcome.decision.status) == (field, 422)


RIGHT: dict[str, dict[str, Any]] = {
    "as it should be": {},
    "in force to the last second": {"prescriptions": [sheet(1, at=LATE)]},
    "a clock five minutes ahead": {"prescriptions": [sheet(1, at=NOW + timedelta(minutes=5))]},
    "two signatures": {"prescriptions": [sheet(1, pharmacist=signature("P-1"))]},
    "born today": {"patient": {**PATIENT, "birth_date": "2026-03-02"}},
    "no voucher, the patient pays": {"voucher": None},
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_flaw(name: str) -> None:
    assert order_flaw(submission(**RIGHT[name]), NOW) is None
