"""Records that tests vary one field at a time."""

from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

from schemas.network import CountStock, OpeningInput, PutPharmacy, StockCountInput
from services.kit.decision import Actor
from services.kit.spec import NOW

PHARMACY_ID = UUID("01950000-0000-7000-8000-00000000000f")
CHAIN = Actor(UUID("01950000-0000-7000-8000-0000000000c1"), "pharmacy_chain", "chain-a")
OTHER = Actor(UUID("01950000-0000-7000-8000-0000000000c2"), "pharmacy_chain", "chain-b")
OPERATOR = Actor(UUID("01950000-0000-7000-8000-0000000000c0"), "operator", "operations")
CITY = "310000"
ZONE = "Asia/Shanghai"
LAT, LON = 31.2304, 121.4737


def put_pharmacy(**changes: Any) -> PutPharmacy:
    """A pharmacy open from eight to ten in the evening, serving three kilometres."""
    week = tuple(OpeningInput(weekday=day, opens=time(8), closes=time(22)) for day in range(1, 8))
    fields: dict[str, Any] = {
        "pharmacy_id": PHARMACY_ID,
        "name": "Test pharmacy",
        "city": CITY,
        "lat": LAT,
        "lon": LON,
        "datum": "WGS-84",
        "radius_m": 3000,
        "openings": week,
        "capacity_per_slot": 4,
        "prices": {"DRUG00001": 1250, "DRUG00002": 300},
    }
    return PutPharmacy(**{**fields, **changes})


def count_stock(counted_at: datetime = NOW, **counts: int) -> CountStock:
    """A count; products are named by keyword."""
    rows = counts or {"DRUG00001": 10}
    return CountStock(
        pharmacy_id=PHARMACY_ID,
        counts=tuple(StockCountInput(product_code=code, count=n) for code, n in rows.items()),
        counted_at=counted_at.astimezone(UTC),
    )
