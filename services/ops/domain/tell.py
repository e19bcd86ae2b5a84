"""Whom a fact is told: entries for every reader that is known, and a place to wait for others."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas import claim, delivery, dispatch, ops
from schemas.message import CancelAnswered, Event
from schemas.values import Tier
from services.kit.decision import Facts, Note
from services.ops.domain.audience import AUDIENCE, Audience, Found, Party
from services.ops.domain.view import Attempt, Held, HeldFact, LetGo, State


def tell(state: State, fact: Event, facts: Facts, found: Found) -> Iterable[ops.FeedEntry | Note]:
    """Entries for all whose part is known; what waits for a reader is held in the state."""
    parties = AUDIENCE[type(fact)] - {Party.OPERATOR}
    if not parties:
        return
    news = _News(
        facts.order_id, fact.TYPE, found.at, fact.model_dump(mode="json", exclude_none=True)
    )
    known: list[UUID] = []
    for party in sorted(parties):
        readers = _readers(state, fact, party, facts.tenant_id, found.audience)
        known += [tenant for tenant in readers or () if tenant not in known]
        if readers is None or (party is Party.PHARMACY and isinstance(fact, CancelAnswered)):
            yield Held(fact=news.held(party, _attempt_of(fact)))
    for tenant in known:
        yield news.entry(tenant)
    yield from _let_go(state, fact, facts.order_id, found.audience)


class _News:
    """One fact, ready to be told to several readers."""

    def __init__(self, subject: UUID, entry_type: str, at: datetime, data: dict[str, Any]) -> None:
        self._subject = subject
        self._type = entry_type
        self._at = at
        self._data = data

    def entry(self, tenant_id: UUID) -> ops.FeedEntry:
        # Validation would copy the whole body once more for every reader.
        return ops.FeedEntry.model_construct(
            tenant_id=tenant_id,
            entry_type=self._type,
            subject=self._subject,
            at=self._at,
            data=self._data,
        )

    def held(self, party: Party, attempt: int) -> HeldFact:
        return HeldFact(
            party=party, attempt=attempt, entry_type=self._type, at=self._at, data=self._data
        )


def _readers(
    state: State, fact: Event, party: Party, hospital: UUID, audience: Audience
) -> tuple[UUID, ...] | None:
    """The tenants of one party; None while they are not known."""
    match party:
        case Party.HOSPITAL:
            return (hospital,)
        case Party.REVIEWER:
            return audience.reviewers
        case Party.OFFERED:
            return (_tenant_in(fact),)
        case Party.PHARMACY:
            return _pharmacies(state, fact)
        case Party.COURIER:
            return _fleets(state, fact, audience)
        case _:
            return ()


def _pharmacies(state: State, fact: Event) -> tuple[UUID, ...] | None:
    if isinstance(fact, dispatch.PharmacyAssigned):
        return (fact.pharmacy_tenant,)
    if isinstance(fact, CancelAnswered):
        return _assigned_tenants(state)
    number = _attempt_of(fact)
    if number == 0:
        return ()
    tenant = state.attempts.get(number, Attempt()).tenant_id
    return None if tenant is None else (tenant,)


def _fleets(state: State, fact: Event, audience: Audience) -> tuple[UUID, ...] | None:
    if isinstance(fact, delivery.PharmacyReviewed):
        return _called(fact, audience)
    if isinstance(fact, delivery.CourierAssigned):
        return (fact.courier_tenant,)
    attempt = state.attempts.get(_attempt_of(fact), Attempt())
    if attempt.fleet_id is not None:
        return (attempt.fleet_id,)
    if attempt.called:
        return audience.couriers
    if attempt.at_counter:
        return ()
    # Delivery's own facts follow the call on the same topic: nobody was called for this attempt.
    held = isinstance(fact, claim.ClaimDeclined | claim.OrderClosed) and fact.attempt > 0
    return None if held else ()


def _called(fact: delivery.PharmacyReviewed, audience: Audience) -> tuple[UUID, ...]:
    """Every fleet, except for what the patient collects."""
    return () if fact.tier is Tier.PICK_UP else audience.couriers


def _let_go(
    state: State, fact: Event, subject: UUID, audience: Audience
) -> Iterable[ops.FeedEntry | Note]:
    """Tell what was held for the reader that this fact makes known."""
    readers: tuple[UUID, ...]
    if isinstance(fact, dispatch.PharmacyAssigned):
        party, number, readers = Party.PHARMACY, fact.attempt, (fact.pharmacy_tenant,)
        for_all = fact.pharmacy_tenant not in _assigned_tenants(state)
    elif isinstance(fact, delivery.PharmacyReviewed):
        party, number, readers = Party.COURIER, fact.attempt, _called(fact, audience)
        for_all = False
    else:
        return
    due = [held for held in state.held if held.party is party]
    for held in due:
        if held.attempt == number or (held.attempt == 0 and for_all):
            news = _News(subject, held.entry_type, held.at, held.data)
            yield from (news.entry(tenant) for tenant in readers)
    if any(held.attempt == number for held in due):
        yield LetGo(party=party, attempt=number)


def _assigned_tenants(state: State) -> tuple[UUID, ...]:
    tenants = (state.attempts[number].tenant_id for number in sorted(state.attempts))
    return tuple(dict.fromkeys(tenant for tenant in tenants if tenant is not None))


def _attempt_of(fact: Event) -> int:
    """0 for facts that concern the order as a whole."""
    attempt = getattr(fact, "attempt", 0)
    return attempt if isinstance(attempt, int) else 0


def _tenant_in(fact: Event) -> UUID:
    tenant = getattr(fact, "pharmacy_tenant", None)
    if not isinstance(tenant, UUID):
        raise TypeError(f"{fact.TYPE} names no pharmacy tenant")
    return tenant
