"""Every fact of the contract is decided on: who may see it."""

import pytest

from schemas import flow
from schemas.message import CommandAnswered, MessageParked, MessageRedriven
from services.ops.domain import AUDIENCE, HANDLERS, Party

CONSUMED = flow.consumed("ops")


@pytest.mark.parametrize("route", flow.ROUTES, ids=lambda route: route.event.TYPE)
def test_every_type_is_decided_on(route: flow.Route) -> None:
    assert route.event in AUDIENCE


def test_no_type_is_decided_on_that_the_contract_does_not_know() -> None:
    assert set(AUDIENCE) == {route.event for route in flow.ROUTES}


def test_every_consumed_type_is_folded() -> None:
    assert set(HANDLERS) == CONSUMED


def test_the_operator_sees_whatever_anyone_sees() -> None:
    for event, parties in AUDIENCE.items():
        assert not parties or Party.OPERATOR in parties, event.TYPE


def test_only_the_named_pharmacy_sees_an_offer() -> None:
    offers = [event for event in AUDIENCE if ".Offer" in event.TYPE]
    assert len(offers) == 4
    for event in offers:
        assert AUDIENCE[event] == {Party.OPERATOR, Party.OFFERED}, event.TYPE


def test_what_went_wrong_inside_is_for_operators_alone() -> None:
    for event, parties in AUDIENCE.items():
        if issubclass(event, MessageParked | MessageRedriven | CommandAnswered):
            assert parties <= {Party.OPERATOR}, event.TYPE


def test_the_hospital_sees_every_other_fact_of_its_orders() -> None:
    inside = (
        *("network.", "dispatch.Offer", "dispatch.PressureChanged"),
        *("review.ReviewDelayed", "claim.DisputeOverdue"),
    )
    for event in CONSUMED:
        private = event.TYPE.startswith(inside)
        if not private and not issubclass(event, MessageParked | MessageRedriven):
            assert Party.HOSPITAL in AUDIENCE[event], event.TYPE
