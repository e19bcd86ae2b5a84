"""The rules of all areas and their lists of drugs, as claim checks the payer with them."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

from pydantic import Field

from schemas.values import Tier
from services.catalogue import products
from services.claim.domain.checking import Book, DrugList, Tariff
from services.claim.domain.settlement import ChargeClass
from services.claim.quoting import Effective, FineYuan, Ratio, Yuan, built, policies

LISTS = Path(__file__).parent / "lists"
TARIFFS = Path(__file__).parent / "tariffs"
CLASSES = {"A": ChargeClass.A, "B": ChargeClass.B, "C": ChargeClass.C}


class DrugListIn(Effective):
    """An area's list of drugs for a span of days: what differs by drug or by class."""

    area: str = Field(pattern=r"^[0-9]{6}$")
    version: str = Field(min_length=1)
    source: str = Field(min_length=1)
    first_self_pay: Mapping[ChargeClass, Ratio] = Field(default_factory=dict)
    limits: Mapping[str, FineYuan] = Field(default_factory=dict)
    dual_channel: frozenset[str] = frozenset()

    def build(self) -> DrugList:
        """The list as the arithmetic takes it."""
        return DrugList(
            area=self.area,
            version=self.version,
            effective_from=self.effective_from,
            effective_to=self.effective_to,
            first_self_pay_ppm={c: _whole(r, 1_000_000) for c, r in self.first_self_pay.items()},
            limits_e4={code: _whole(limit, 10_000) for code, limit in self.limits.items()},
            dual_channel=self.dual_channel,
        )


class TariffIn(Effective):
    """A city's prices of a delivery for a span of days, by tier."""

    city: str = Field(pattern=r"^[0-9]{6}$")
    source: str = Field(min_length=1)
    courier: Mapping[Tier, Yuan]
    late: Mapping[Tier, Yuan]

    def build(self) -> Tariff:
        """The tariff in fen."""
        return Tariff(
            area=self.city,
            effective_from=self.effective_from,
            effective_to=self.effective_to,
            courier_fen={tier.value: _whole(fee, 100) for tier, fee in self.courier.items()},
            late_fen={tier.value: _whole(owed, 100) for tier, owed in self.late.items()},
        )


@cache
def book() -> Book:
    """All that this process checks with. Raises ValueError that names the file."""
    classes = {code: CLASSES[item.charge_class.value] for code, item in products().items()}
    return Book(policies(), lists(), classes, tariffs())


def lists(folder: Path = LISTS) -> tuple[DrugList, ...]:
    """The lists of a folder of TOML files. Raises ValueError that names the file."""
    return built(folder, "list", lambda row: DrugListIn.model_validate(row).build())


def tariffs(folder: Path = TARIFFS) -> tuple[Tariff, ...]:
    """The prices of deliveries by city. Raises ValueError that names the file."""
    return built(folder, "tariff", lambda row: TariffIn.model_validate(row).build())


def _whole(figure: Decimal, unit: int) -> int:
    return int(figure * unit)
