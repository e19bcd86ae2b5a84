"""Decisions about cities and pharmacies. The aggregate is one pharmacy, or one city."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.message import Command, Event
from schemas.network import (
    CityConfigured,
    CityFactor,
    ConfigureCity,
    CountStock,
    Pharmacy,
    PharmacyChanged,
    PutCityFactor,
    PutPharmacy,
    StockCount,
    StockCounted,
)
from schemas.values import GeoPoint
from services.kit.decision import (
    Actor,
    Decision,
    Facts,
    Message,
    Note,
    applied,
    invalid,
    stale,
)
from services.network.domain.checks import (
    Flaw,
    count_flaws,
    in_wgs84,
    pharmacy_flaws,
    service_area,
)
from services.network.domain.city import FACTORS_MAX, city_flaws, factor_flaws

# UUIDv7 of the contract's first day; the rest is drawn from the code, so that every worker and
# every intake message gives a city the same key.
_CITY_BIRTH_MS = 1_767_225_600_000

# A product, a count and a last day say the same of many pharmacies: what is published is made once.
FACTS_KEPT = 100_000

KEEPERS = frozenset({"pharmacy_chain", "operator"})


class State(BaseModel):
    """The last published record of the pharmacy or city behind this key."""

    model_config = ConfigDict(frozen=True)

    pharmacy: Pharmacy | None = None
    city: CityConfigured | None = None


@dataclass(frozen=True, slots=True)
class CityFound:
    """Looked up for PutPharmacy: the city's time zone, None when the city is unknown.

    `unknown` are its products that no catalogue has.
    """

    timezone: str | None
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CountsFound:
    """Looked up for CountStock: when each product was counted last.

    `unknown` are those that no catalogue has.
    """

    counted_at: Mapping[str, datetime]
    unknown: frozenset[str] = frozenset()


def city_id(code: str) -> UUID:
    """The key of a city, the same for ever."""
    digest = int.from_bytes(hashlib.sha256(f"city:{code}".encode()).digest()[:10])
    high = _CITY_BIRTH_MS << 80 | 0x7 << 76 | (digest >> 68) << 64
    return UUID(int=high | 0b10 << 62 | digest & (1 << 62) - 1)


def key_of(command: Command, message_id: UUID) -> UUID:
    """The aggregate a command speaks of."""
    match command:
        case ConfigureCity() | PutCityFactor():
            return city_id(command.city)
        case PutPharmacy() | CountStock():
            return command.pharmacy_id
        case _:
            return message_id


def initial() -> State:
    """Nothing is known."""
    return State()


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """Route a command to its handler; nothing else reaches this service."""
    handler = HANDLERS.get(type(message))
    if handler is None:
        return invalid("unknown_message", f"network does not take {type(message).__name__}")
    return handler(state, message, now, facts)


def evolve(state: State, event: Event | Note) -> State:
    """Keep the last record; counts live in a table of their own."""
    match event:
        case PharmacyChanged():
            return state.model_copy(update={"pharmacy": event.pharmacy})
        case CityConfigured():
            return state.model_copy(update={"city": event})
        case _:
            return state


def configure_city(state: State, command: ConfigureCity, now: datetime, facts: Facts) -> Decision:
    """Operators alone add or change a city; its id is the key the shell was given."""
    if _kind(facts.actor) != "operator":
        return invalid("forbidden", "only operators configure cities", status=403)
    if flaws := city_flaws(command):
        return _refused(flaws)
    event = CityConfigured(
        city_id=facts.order_id,
        city=command.city,
        name=command.name,
        timezone=command.timezone,
        tiers=command.tiers,
        rules=command.rules,
        factors=_in_force(state, now),
    )
    answer = {"city": command.city, "city_id": str(facts.order_id)}
    if state.city == event:
        return stale("nothing changed", answer)
    return applied(event, answer=answer)


def put_factor(state: State, command: PutCityFactor, now: datetime, facts: Facts) -> Decision:
    """Weather and the like, from operations: what holds is the pack's and theirs together."""
    if _kind(facts.actor) != "operator":
        return invalid("forbidden", "only operators set a city's factors", status=403)
    if state.city is None:
        return invalid("unknown_city", f"no city {command.city}", field="city", status=422)
    if flaws := tuple(factor_flaws(command.factor, "factor")):
        return _refused(flaws)
    others = [one for one in _in_force(state, now) if one.name != command.factor.name]
    if len(others) >= FACTORS_MAX:
        detail = f"at most {FACTORS_MAX} factors hold at a time"
        return invalid("too_many", detail, field="factor", status=422)
    told = CityFactor.model_validate(command.factor.model_dump())
    factors = tuple(sorted((*others, told), key=lambda one: (one.from_at, one.name)))
    answer = {"city": command.city, "factors": [one.name for one in factors]}
    if factors == state.city.factors:
        return stale("nothing changed", answer)
    return applied(state.city.model_copy(update={"factors": factors}), answer=answer)


def _in_force(state: State, now: datetime) -> tuple[CityFactor, ...]:
    """Set by operations and not over."""
    known = state.city.factors if state.city else ()
    return tuple(one for one in known if one.until_at > now)


def put_pharmacy(state: State, command: PutPharmacy, now: datetime, facts: Facts) -> Decision:
    """Add or replace the whole record; the owner never changes."""
    if refusal := _not_theirs(state, facts):
        return refusal
    found = facts.found
    unknown = found.unknown if isinstance(found, CityFound) else frozenset()
    if flaws := pharmacy_flaws(command, unknown):
        return _refused(flaws)
    if state.pharmacy is not None and state.pharmacy.city != command.city:
        detail = f"this pharmacy stands in {state.pharmacy.city}; another city is another pharmacy"
        return invalid("city_fixed", detail, field="city", status=422)
    if not isinstance(found, CityFound) or found.timezone is None:
        return invalid("unknown_city", f"no city {command.city}", field="city", status=422)
    record = _record(state, in_wgs84(command), found.timezone, facts)
    answer = {"pharmacy_id": str(command.pharmacy_id)}
    if state.pharmacy == record:
        return stale("nothing changed", answer)
    return applied(PharmacyChanged(pharmacy=record), answer=answer)


def count_stock(state: State, command: CountStock, now: datetime, facts: Facts) -> Decision:
    """Publish what is newer than the last count of each product."""
    if state.pharmacy is None:
        return _unknown_pharmacy()
    if refusal := _not_theirs(state, facts):
        return refusal
    found = facts.found if isinstance(facts.found, CountsFound) else CountsFound({})
    if flaws := count_flaws(command, now, found.unknown):
        return _refused(flaws)
    last = found.counted_at
    newer = tuple(
        _published(count.product_code, count.count, count.expires_on)
        for count in command.counts
        if not last
        or count.product_code not in last
        or last[count.product_code] < command.counted_at
    )
    answer = {"pharmacy_id": str(command.pharmacy_id), "taken": len(newer)}
    if not newer:
        return stale("a later count of these products is known", answer)
    event = StockCounted(
        pharmacy_id=command.pharmacy_id, counts=newer, counted_at=command.counted_at
    )
    return applied(event, answer=answer)


@lru_cache(maxsize=FACTS_KEPT)
def _published(product: str, packs: int, expires_on: date | None) -> StockCount:
    return StockCount(product_code=product, count=packs, expires_on=expires_on)


def _record(state: State, command: PutPharmacy, timezone: str, facts: Facts) -> Pharmacy:
    owner = state.pharmacy.tenant_id if state.pharmacy else _tenant(facts)
    return Pharmacy(
        pharmacy_id=command.pharmacy_id,
        tenant_id=owner,
        name=command.name,
        city=command.city,
        timezone=timezone,
        point=GeoPoint(lat=command.lat, lon=command.lon),
        area=service_area(command),
        open_24h=command.open_24h,
        openings=tuple(sorted(command.openings, key=lambda o: (o.weekday, o.opens))),
        holidays=tuple(sorted(set(command.holidays))),
        pharmacist_on_duty=command.pharmacist_on_duty,
        duties=tuple(sorted(command.duties, key=lambda o: (o.weekday, o.opens))),
        controlled=tuple(sorted(set(command.controlled))),
        designated=command.designated,
        cold_chain=command.cold_chain,
        capacity_per_slot=command.capacity_per_slot,
        paused=command.paused,
        prices=command.prices,
    )


def _not_theirs(state: State, facts: Facts) -> Decision | None:
    """Another chain's pharmacy does not exist for the asker; a foreign kind is told so."""
    if _kind(facts.actor) not in KEEPERS:
        return invalid("forbidden", "only its chain or an operator keeps a pharmacy", status=403)
    if state.pharmacy is None or _kind(facts.actor) == "operator":
        return None
    return None if state.pharmacy.tenant_id == _tenant(facts) else _unknown_pharmacy()


def _unknown_pharmacy() -> Decision:
    return invalid("not_found", "no such pharmacy", field="pharmacy_id", status=404)


def _refused(flaws: tuple[Flaw, ...]) -> Decision:
    first = flaws[0]
    more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
    return invalid(first.code, first.detail + more, field=first.field, status=422)


def _kind(actor: Actor | None) -> str:
    return actor.kind if actor else ""


def _tenant(facts: Facts) -> UUID:
    return facts.actor.tenant_id if facts.actor else facts.tenant_id


Handler = Callable[[State, Any, datetime, Facts], Decision]

HANDLERS: dict[type[Message], Handler] = {
    ConfigureCity: configure_city,
    PutCityFactor: put_factor,
    PutPharmacy: put_pharmacy,
    CountStock: count_stock,
}
