"""What the operator's doors and the files of rules refuse, each by its field."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from services.claim.api import AwayHours, Reconcile
from services.claim.book import DrugListIn, TariffIn
from services.claim.payouts import PayOut

PERIOD: dict[str, Any] = {
    "account": "courier",
    "first": "2026-03-01",
    "last": "2026-03-31",
    "person": "S-1",
}
HOURS: dict[str, Any] = {"begins": "22:00", "ends": "06:00", "effective_from": "2026-01-01"}
LIST: dict[str, Any] = {
    "area": "310000",
    "version": "1",
    "source": "made up",
    "effective_from": "2026-01-01",
    "effective_to": "2026-01-01",
}
TARIFF: dict[str, Any] = {
    "city": "310000",
    "source": "made up",
    "effective_from": "2026-01-01",
    "courier": {},
    "late": {},
}


@pytest.mark.parametrize(
    ("model", "known", "field", "given"),
    [
        (Reconcile, {"date": "2026-03-01"}, "date", "0001-01-01"),
        (Reconcile, {"date": "2026-03-01"}, "date", "9999-12-31"),
        (PayOut, PERIOD, "first", "0001-01-01"),
        (PayOut, PERIOD, "last", "9999-12-31"),
        (PayOut, PERIOD, "last", "2026-02-28"),
        (PayOut, PERIOD, "last", "2026-06-02"),
        # Of another clock than China's; it would be read as if it were of that.
        (AwayHours, HOURS, "begins", "22:00:00+05:00"),
        (AwayHours, HOURS, "begins", 79_200),
        (AwayHours, HOURS, "ends", "22:00:00Z"),
        (AwayHours, HOURS, "effective_to", "2025-12-31"),
        (DrugListIn, LIST, "effective_to", "2025-12-31"),
        (TariffIn, TARIFF, "effective_to", "2025-12-31"),
    ],
)
def test_a_wish_is_refused_by_the_field_at_fault(
    model: type[BaseModel], known: dict[str, Any], field: str, given: Any
) -> None:
    model.model_validate(known)
    with pytest.raises(ValidationError) as refused:
        model.model_validate(known | {field: given})
    assert refused.value.errors()[0]["loc"] == (field,)
