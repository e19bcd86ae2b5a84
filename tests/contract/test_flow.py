"""The one table against the code: who reads, who writes, and no way back up the road."""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas import claim, delivery, dispatch, flow, network, prescription, review
from schemas.message import CommandAnswered, Event, MessageParked, MessageRedriven
from services.dispatch.domain import promise
from services.kit.config import Settings
from services.kit.decision import Actor
from services.kit.stream import create_app
from services.kit.tenants import Tenants
from services.kit.topics import wanted_topics
from tests.contract.reading import (
    CLONE,
    Reach,
    domain,
    facts_made_in,
    handlers,
    product_files,
)

Graph = dict[type[Event], set[type[Event]]]
Causes = dict[type[Event], set[type[Event]]]

BY_KIT = (CommandAnswered, MessageParked, MessageRedriven)
# Facts of the contract that no service makes yet, each with what it waits for.
NOT_MADE_YET: dict[type[Event], str] = {}

# Service → fact it reads → facts of its own that follow from it for the same attempt: at once, by
# a timer or an outside call, or by what a person may then do.
LEADS_TO: dict[str, Causes] = {
    "prescription": {claim.OrderClosed: set()},
    "review": {
        prescription.PrescriptionIssued: {
            review.ReviewApproved,
            review.ReviewRejected,
            review.ReviewReturned,
            review.ReviewEscalated,
            review.ReviewDelayed,
        },
        prescription.PrescriptionCorrected: {
            review.ReviewApproved,
            review.ReviewRejected,
            review.ReviewReturned,
            review.ReviewEscalated,
            review.ReviewDelayed,
        },
        prescription.CancelRequested: {
            review.ReviewCancelled,
            review.CancelForwarded,
            review.CancelAnswered,
        },
        claim.OrderClosed: set(),
    },
    "claim": {
        review.ReviewApproved: {
            claim.ClaimAuthorised,
            claim.ClaimDeclined,
            claim.OrderClosed,
            claim.PatientAsked,
            claim.PatientAnswered,
        },
        review.ReviewRejected: {claim.OrderClosed},
        review.ReviewCancelled: {claim.OrderClosed},
        review.CancelForwarded: {
            claim.CancelForwarded,
            claim.CancelAnswered,
            claim.OrderClosed,
        },
        dispatch.PharmacyAssigned: {
            claim.ClaimPriced,
            claim.DisputeOverdue,
            claim.ClaimDeclined,
            claim.ClaimUndone,
            claim.PatientAsked,
            claim.PatientAnswered,
            claim.OrderClosed,
        },
        dispatch.DispatchExhausted: {claim.ClaimUndone, claim.OrderClosed},
        dispatch.DispatchCancelled: {claim.ClaimUndone, claim.OrderClosed},
        delivery.ParcelSealed: {
            claim.ClaimSettled,
            claim.DisputeOverdue,
            claim.ClaimDeclined,
            claim.ClaimUndone,
            claim.PatientAsked,
            claim.PatientAnswered,
            claim.OrderClosed,
        },
        delivery.ParcelDelivered: {claim.ClaimReduced, claim.OrderClosed},
        delivery.ParcelReturned: {claim.ClaimUndone, claim.OrderClosed},
        delivery.AttemptFailed: {claim.ClaimUndone},
        delivery.DeliveryCancelled: {claim.ClaimUndone, claim.OrderClosed},
    },
    "network": {},
    "dispatch": {
        prescription.PrescriptionIssued: set(),
        claim.ClaimAuthorised: {
            dispatch.PromiseMade,
            dispatch.PromiseChanged,
            dispatch.PromiseBroken,
            dispatch.OfferMade,
            dispatch.OfferDeclined,
            dispatch.OfferExpired,
            dispatch.OfferWithdrawn,
            dispatch.PharmacyAssigned,
            dispatch.DispatchExhausted,
            dispatch.ShortageRegistered,
            dispatch.PatientAsked,
            dispatch.PatientAnswered,
            dispatch.DispatchCancelled,
            dispatch.PressureChanged,
        },
        claim.ClaimDeclined: {dispatch.OfferWithdrawn},
        claim.OrderClosed: {dispatch.OfferWithdrawn, dispatch.PressureChanged},
        claim.CancelForwarded: {
            dispatch.CancelForwarded,
            dispatch.CancelAnswered,
            dispatch.DispatchCancelled,
            dispatch.OfferWithdrawn,
        },
        delivery.AttemptFailed: {
            dispatch.PromiseBroken,
            dispatch.PromiseChanged,
            dispatch.OfferMade,
            dispatch.OfferDeclined,
            dispatch.OfferExpired,
            dispatch.OfferWithdrawn,
            dispatch.PharmacyAssigned,
            dispatch.DispatchExhausted,
            dispatch.DispatchCancelled,
            dispatch.CancelAnswered,
            dispatch.ShortageRegistered,
            dispatch.PatientAsked,
            dispatch.PatientAnswered,
        },
        delivery.ParcelSealed: set(),
        delivery.PromiseBroken: set(),
        delivery.DeliveryCancelled: set(),
        network.CityConfigured: {dispatch.OfferMade},
        network.PharmacyChanged: {dispatch.OfferMade, dispatch.OfferWithdrawn},
        network.StockCounted: {
            dispatch.OfferMade,
            dispatch.OfferWithdrawn,
            dispatch.PatientAsked,
            dispatch.PatientAnswered,
            dispatch.ShortageEnded,
        },
    },
    "delivery": {
        dispatch.PharmacyAssigned: {
            delivery.PharmacyReviewed,
            delivery.PromiseBroken,
            delivery.AttemptFailed,
        },
        claim.ClaimPriced: {delivery.ParcelSealed, delivery.AttemptFailed},
        claim.ClaimSettled: {
            delivery.ParcelReleased,
            delivery.CourierAssigned,
            delivery.ParcelPickedUp,
            delivery.ParcelDelivered,
            delivery.ParcelReturned,
            delivery.AttemptFailed,
        },
        claim.ClaimDeclined: set(),
        claim.OrderClosed: set(),
        dispatch.CancelForwarded: {delivery.DeliveryCancelled, delivery.CancelAnswered},
    },
}
# Claim makes what an earlier fact led to once nothing else is open; whatever comes by then starts
# that step without being its cause.
NEXT_STEP = frozenset({"services.claim.domain.steps.carry_on"})


def edges(table: dict[str, Causes], left_out: Iterable[tuple[str, str]]) -> Graph:
    """Fact → facts that follow, over all services."""
    graph: Graph = {}
    skipped = frozenset(left_out)
    for service, causes in table.items():
        for cause, effects in causes.items():
            if (cause.TYPE, service) not in skipped:
                graph.setdefault(cause, set()).update(effects)
    return graph


def cycle_in(graph: Graph) -> list[str]:
    """The types of one cycle, empty when there is none."""
    done: set[type[Event]] = set()

    def walk(at: type[Event], way: tuple[type[Event], ...]) -> list[str]:
        if at in way:
            return [item.TYPE for item in (*way[way.index(at) :], at)]
        if at in done:
            return []
        for after in sorted(graph.get(at, ()), key=lambda item: item.TYPE):
            if found := walk(after, (*way, at)):
                return found
        done.add(at)
        return []

    return next((found for start in list(graph) if (found := walk(start, ()))), [])


def test_no_way_leads_back_but_the_named_ones() -> None:
    assert cycle_in(edges(LEADS_TO, flow.BACK_EDGES)) == []


@pytest.mark.parametrize("back", sorted(flow.BACK_EDGES))
def test_each_named_way_back_is_one(back: tuple[str, str]) -> None:
    others = flow.BACK_EDGES - {back}
    assert cycle_in(edges(LEADS_TO, others))


def test_a_new_way_back_would_be_found() -> None:
    longer: Causes = {**LEADS_TO["review"], claim.OrderClosed: {review.ReviewApproved}}
    found = cycle_in(edges({**LEADS_TO, "review": longer}, flow.BACK_EDGES))
    assert {"claim.OrderClosed", "review.ReviewApproved"} <= set(found)


def test_the_way_back_is_counted_and_bounded() -> None:
    assert "attempt" in delivery.AttemptFailed.model_fields
    assert "attempt" in dispatch.PharmacyAssigned.model_fields
    assert 1 <= promise.ATTEMPTS_MAX <= 10


@pytest.mark.parametrize("service", sorted(LEADS_TO))
def test_the_causes_are_told_for_exactly_what_a_service_reads(service: str) -> None:
    assert set(LEADS_TO[service]) == flow.consumed(service)
    told = {effect for effects in LEADS_TO[service].values() for effect in effects}
    assert told <= flow.emitted(service)
    begun = {fact for command in _commands(service) for fact in _made_by(service, command)}
    unexplained = flow.emitted(service) - told - begun - set(NOT_MADE_YET)
    assert {fact.TYPE for fact in unexplained if not issubclass(fact, BY_KIT)} == set()


@pytest.mark.parametrize("service", sorted(LEADS_TO))
def test_the_code_makes_nothing_that_the_causes_do_not_tell(service: str) -> None:
    for cause, effects in LEADS_TO[service].items():
        made = _made_by(service, cause.TYPE)
        assert {fact.TYPE for fact in made - effects} == set(), cause.TYPE


def test_the_functions_that_are_not_followed_exist() -> None:
    reach = Reach("claim")
    assert all(reach.knows(name) for name in NEXT_STEP)
    made = reach.of(handlers("claim")["delivery.AttemptFailed"])
    assert claim.ClaimPriced in made, "else leaving it out would prove nothing"


@pytest.mark.parametrize("service", flow.SERVICES)
def test_a_domain_takes_exactly_what_the_table_says(service: str) -> None:
    wanted = {event.TYPE for event in flow.consumed(service)} | set(_commands(service))
    taken = {str(key) for key in handlers(service) if "." in str(key) and isinstance(key, str)}
    assert taken == wanted


@pytest.mark.parametrize("service", flow.SERVICES)
def test_only_its_producer_makes_a_fact(service: str) -> None:
    made = {fact for path in product_files(f"services/{service}") for fact in facts_made_in(path)}
    assert {fact.TYPE for fact in made - flow.emitted(service)} == set()


def test_the_services_make_every_fact_of_the_table() -> None:
    made = {
        fact
        for service in flow.SERVICES
        for path in product_files(f"services/{service}")
        for fact in facts_made_in(path)
    }
    silent = {route.event for route in flow.ROUTES} - made
    assert {fact for fact in silent if not issubclass(fact, BY_KIT)} == set(NOT_MADE_YET)


def test_nobody_else_makes_facts() -> None:
    folders = [path for path in (CLONE / "services").iterdir() if path.name not in flow.SERVICES]
    for path in [file for folder in folders for file in product_files(f"services/{folder.name}")]:
        made = {fact.TYPE for fact in facts_made_in(path) if hasattr(fact, "TYPE")}
        assert made == set(), path.name


@pytest.mark.parametrize("service", flow.SERVICES)
def test_a_service_subscribes_to_what_the_table_says(service: str) -> None:
    app = importlib.import_module(f"services.{service}.app")
    assert app.SERVICE.name == service
    assert app.SERVICE.consumed == flow.consumed(service)
    assert app.SERVICE.decide is domain(service).decide


@pytest.mark.parametrize("service", flow.SERVICES)
async def test_its_one_agent_reads_the_topics_of_the_table(service: str, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path), service)
    agents = importlib.import_module(f"services.{service}.agents")
    agents.register(app, None)
    (agent,) = app.agents.values()
    assert tuple(agent.channel.topics) == flow.inputs(service)
    assert agent.concurrency == 1, "more would acknowledge out of order"
    assert app.conf.id == service, "the consumer group is fixed for ever"


def test_the_topics_created_are_the_topics_of_the_table() -> None:
    tenant = UUID(int=7)
    tenants = Tenants([(Actor(tenant, "hospital"), "0" * 64)])
    assert wanted_topics(tenants) == [*flow.topics(), flow.partner_topic(tenant)]
    assert {topic for name in flow.SERVICES for topic in flow.inputs(name)} <= set(flow.topics())


def test_every_fact_has_one_producer_and_its_name() -> None:
    for route in flow.ROUTES:
        assert f"{route.producer}.{route.event.__name__}" == route.event.TYPE
    types = [route.event.TYPE for route in flow.ROUTES]
    assert len(types) == len(set(types))


def test_every_fact_that_a_pruning_lets_go_of_stands_in_the_timeline() -> None:
    facts = [route for route in flow.ROUTES if route.topic.endswith(".events")]
    unread = {route.event.TYPE for route in facts if "ops" not in route.consumers}
    ours = {name for name in unread if not name.startswith("ops.")}
    assert ours == {network.StockCounted.TYPE}, "network keeps what was counted last"


def _commands(service: str) -> list[str]:
    found = [*flow.INTAKE.get(service, ()), *flow.HTTP_ONLY.get(service, ())]
    return [command.TYPE for command in found]


def _made_by(service: str, name: str) -> set[type[Event]]:
    reach = _REACH.setdefault(service, Reach(service, NEXT_STEP))
    handler: Callable[..., Any] = handlers(service)[name]
    return reach.of(handler)


_REACH: dict[str, Reach] = {}
