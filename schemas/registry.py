"""From (type, version) to model, with upcasters for versions no longer written."""

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from schemas.flow import HTTP_ONLY, INTAKE, ROUTES
from schemas.message import Command, Event

Model = type[Event] | type[Command]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _models() -> tuple[Model, ...]:
    events: tuple[Model, ...] = tuple(route.event for route in ROUTES)
    groups = (*INTAKE.values(), *HTTP_ONLY.values())
    return (*events, *(command for group in groups for command in group))


MODELS: dict[tuple[str, int], Model] = {(model.TYPE, model.VERSION): model for model in _models()}

# (type, old version) -> function from the old body to the next version's body.
UPCASTERS: dict[tuple[str, int], Upcaster] = {
    # Each knows a gate, a tier or a reason more, so what was written before is read as it stands.
    ("dispatch.PromiseChanged", 1): dict,
    ("dispatch.PromiseChanged", 2): dict,
    ("dispatch.PromiseChanged", 3): dict,
    ("dispatch.OfferMade", 1): dict,
    ("dispatch.OfferMade", 2): dict,
    ("dispatch.OfferMade", 3): dict,
    ("dispatch.DispatchExhausted", 1): dict,
    ("dispatch.PromiseBroken", 1): dict,
    ("dispatch.PromiseBroken", 2): dict,
    ("dispatch.PharmacyAssigned", 1): dict,
    ("dispatch.PharmacyAssigned", 2): dict,
    ("delivery.PharmacyReviewed", 1): dict,
    ("delivery.PharmacyReviewed", 2): dict,
    ("delivery.PromiseBroken", 1): dict,
    ("delivery.PromiseBroken", 2): dict,
    ("delivery.ParcelReturned", 1): dict,
    ("network.CityConfigured", 1): dict,
    ("network.CityConfigured", 2): dict,
}


class UnknownMessage(ValueError):
    """No model for this type and version."""


def parse(type_name: str, version: int, body: bytes) -> Event | Command:
    """Read a body. Raises UnknownMessage, pydantic.ValidationError, or ValueError for no JSON."""
    model = MODELS.get((type_name, version))
    if model is not None:
        return model.model_validate_json(body)
    return _parse_old(type_name, version, body)


def _parse_old(type_name: str, version: int, body: bytes) -> Event | Command:
    # The body of an unknown type may be anything, so nobody looks into it.
    if (type_name, version) not in UPCASTERS:
        raise UnknownMessage(f"unknown type {type_name} version {version}")
    data = from_json(body)
    while (type_name, version) in UPCASTERS:
        data = UPCASTERS[type_name, version](data)
        version += 1
    model = MODELS.get((type_name, version))
    if model is None:
        raise UnknownMessage(f"unknown type {type_name} version {version}")
    return model.model_validate(data)
