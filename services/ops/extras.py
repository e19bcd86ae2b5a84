"""What lives as long as the process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from services.kit.config import Settings
from services.kit.gather import Flow
from services.kit.tenants import Tenants
from services.ops.board import Counts
from services.ops.domain import Audience
from services.ops.feed import Begins

# Entries of all feeds; from here on whoever waits hears of them half as often.
BUSY_PER_S = 60.0


@dataclass(frozen=True, slots=True)
class Extras:
    """Who listens by its kind, what all readers share, and how much is told just now."""

    audience: Audience
    counts: Counts
    told: Flow
    begins: Begins


@asynccontextmanager
async def extras(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Extras]:
    """Read the tenants once: whoever is a review desk or a fleet hears of orders by its kind."""
    tenants = Tenants.load(settings.tenants_file)
    reviewers = tuple(actor.tenant_id for actor in tenants.of_kind("reviewer"))
    couriers = tuple(actor.tenant_id for actor in tenants.of_kind("courier"))
    yield Extras(Audience(reviewers, couriers), Counts(), Flow(BUSY_PER_S), Begins())
