"""What lives as long as the process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from services.kit.config import Settings
from services.kit.tenants import Tenants
from services.ops.board import Counts
from services.ops.domain import Audience


@dataclass(frozen=True, slots=True)
class Extras:
    """Who listens by its kind, and the counts everybody shares."""

    audience: Audience
    counts: Counts


@asynccontextmanager
async def extras(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Extras]:
    """Read the tenants once: whoever is a review desk or a fleet hears of orders by its kind."""
    tenants = Tenants.load(settings.tenants_file)
    reviewers = tuple(actor.tenant_id for actor in tenants.of_kind("reviewer"))
    couriers = tuple(actor.tenant_id for actor in tenants.of_kind("courier"))
    yield Extras(Audience(reviewers, couriers), Counts())
