"""What is wrong with a record, field by field. Every flaw is found, not only the first."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import isfinite

from schemas.datum import DATUMS, GCJ_02, WGS_84, to_wgs84
from schemas.network import CountStock, Opening, PutPharmacy
from services.network.domain.area import MAX_ABS_LAT, BadArea, Ring, checked_ring, circle

CLOCK_SKEW = timedelta(minutes=5)
MAX_HOLIDAYS = 400
MAX_PRICES = 20_000
MAX_PRICE_FEN = 100_000_000
UNKNOWN_PRODUCT = "unknown_product"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One bad field, by its path."""

    field: str
    code: str
    detail: str


def pharmacy_flaws(command: PutPharmacy, unknown: Set[str] = frozenset()) -> tuple[Flaw, ...]:
    """All that is wrong with the record itself; the city and the owner are checked elsewhere.

    `unknown` are those of its products that no catalogue has.
    """
    if command.datum not in DATUMS:
        detail = f"the datum is one of {', '.join(DATUMS)}"
        return (Flaw("datum", "unknown_datum", detail),)
    command = in_wgs84(command)
    return (
        *_place_flaws(command),
        *_hour_flaws(command),
        *_holiday_flaws(command),
        *_price_flaws(command),
        *_unknown_flaws([(f"prices.{code}", code) for code in command.prices], unknown),
    )


def in_wgs84(command: PutPharmacy) -> PutPharmacy:
    """The same record with its point and area in WGS-84."""
    if command.datum != GCJ_02:
        return command
    lat, lon = to_wgs84(command.lat, command.lon)
    area = command.area
    if area is not None:
        turned = (to_wgs84(y, x) if isfinite(x) and isfinite(y) else (y, x) for x, y in area)
        area = tuple((x, y) for y, x in turned)
    return command.model_copy(update={"lat": lat, "lon": lon, "area": area, "datum": WGS_84})


def service_area(command: PutPharmacy) -> Ring:
    """The ring served. Raises BadArea."""
    if command.area is not None:
        return checked_ring(command.area, command.lat, command.lon)
    return circle(command.lat, command.lon, float(command.radius_m or 0))


def count_flaws(
    command: CountStock, now: datetime, unknown: Set[str] = frozenset()
) -> tuple[Flaw, ...]:
    """A count from the future, the same product twice, or one that no catalogue has."""
    flaws: list[Flaw] = []
    if command.counted_at > now + CLOCK_SKEW:
        flaws.append(Flaw("counted_at", "in_the_future", "counted later than now"))
    codes = [count.product_code for count in command.counts]
    if len(set(codes)) < len(codes):
        flaws += _twice(codes)
    if unknown:
        named = [(f"counts.{number}.product_code", code) for number, code in enumerate(codes)]
        flaws += _unknown_flaws(named, unknown)
    return tuple(flaws)


def _twice(codes: Iterable[str]) -> Iterator[Flaw]:
    seen: set[str] = set()
    for number, code in enumerate(codes):
        if code in seen:
            detail = f"{code} stands twice in one count"
            yield Flaw(f"counts.{number}.product_code", "duplicate_product", detail)
        seen.add(code)


def unknown_flaw(field: str, code: str) -> Flaw:
    """A product that no catalogue has."""
    return Flaw(field, UNKNOWN_PRODUCT, f"no catalogue has a product {code}")


def _unknown_flaws(named: Iterable[tuple[str, str]], unknown: Set[str]) -> Iterator[Flaw]:
    """Nobody could order it, and a code that is mistyped would be missed where it is meant."""
    for field, code in named:
        if code in unknown:
            yield unknown_flaw(field, code)


def _place_flaws(command: PutPharmacy) -> Iterator[Flaw]:
    if abs(command.lat) > MAX_ABS_LAT:
        yield Flaw("lat", "bad_place", f"no delivery beyond {MAX_ABS_LAT:.0f} degrees of latitude")
        return
    if command.area is None and command.radius_m is None:
        yield Flaw("area", "area_missing", "give a ring as area, or radius_m")
        return
    if command.area is not None and command.radius_m is not None:
        yield Flaw("radius_m", "area_twice", "give either area or radius_m, not both")
        return
    try:
        service_area(command)
    except BadArea as bad:
        yield Flaw("area", "bad_area", str(bad))


def _hour_flaws(command: PutPharmacy) -> Iterator[Flaw]:
    if command.open_24h and command.openings:
        yield Flaw("openings", "hours_twice", "open_24h has no openings; give one of the two")
    if not command.open_24h and not command.openings:
        yield Flaw("openings", "hours_missing", "give the weekly openings, or open_24h")
    flaws = [*week_flaws(command.openings, "openings"), *week_flaws(command.duties, "duties")]
    yield from flaws
    known = command.openings and command.duties and not flaws
    if known and not _meet(command.openings, command.duties):
        yield Flaw("duties", "never_staffed", "nobody is on the roster while it is open")


def _meet(openings: tuple[Opening, ...], duties: tuple[Opening, ...]) -> bool:
    return any(
        one.weekday == other.weekday and one.opens < other.closes and other.opens < one.closes
        for one in openings
        for other in duties
    )


def week_flaws(openings: tuple[Opening, ...], where: str) -> Iterator[Flaw]:
    """Weekly local times that are no span of a day, or overlap."""
    for number, opening in enumerate(openings):
        if opening.opens.tzinfo or opening.closes.tzinfo:
            yield Flaw(f"{where}.{number}", "bad_hours", "local times carry no offset")
            return
        if opening.closes <= opening.opens:
            detail = "closes must be later than opens; split an opening at midnight"
            yield Flaw(f"{where}.{number}.closes", "bad_hours", detail)
    yield from _overlaps(openings, where)


def _overlaps(openings: tuple[Opening, ...], where: str) -> Iterator[Flaw]:
    ordered = sorted(enumerate(openings), key=lambda item: (item[1].weekday, item[1].opens))
    for (_, first), (number, second) in pairwise(ordered):
        if first.weekday == second.weekday and second.opens < first.closes:
            detail = f"overlaps another opening of weekday {second.weekday}"
            yield Flaw(f"{where}.{number}", "bad_hours", detail)


def _holiday_flaws(command: PutPharmacy) -> Iterator[Flaw]:
    if len(command.holidays) > MAX_HOLIDAYS:
        yield Flaw("holidays", "too_many", f"at most {MAX_HOLIDAYS} days")


def _price_flaws(command: PutPharmacy) -> Iterator[Flaw]:
    if len(command.prices) > MAX_PRICES:
        yield Flaw("prices", "too_many", f"at most {MAX_PRICES} products")
    for code, price in command.prices.items():
        if not 0 < price <= MAX_PRICE_FEN:
            detail = f"a price is above zero and at most {MAX_PRICE_FEN}, in fen"
            yield Flaw(f"prices.{code}", "bad_price", detail)
