"""Terms for orders that found nobody: looked up where a match ends without a choice."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.dispatch.domain.candidates import CityIndex, Pair, Supply, Wanted
from services.dispatch.domain.choose import waits
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.found import Matched
from services.dispatch.domain.state import State
from services.dispatch.domain.terms import Unserved, terms_for

# At each moment that is tried, for each of two tiers, stock is read at most in two windows.
READS_MAX = 40

Read = Callable[[set[Pair]], Awaitable[dict[Pair, int]]]


async def with_terms(
    read: Read,
    index: CityIndex,
    city: City,
    orders: Sequence[Wanted],
    states: Mapping[UUID, State],
    found: Mapping[UUID, Matched],
    now: datetime,
) -> Mapping[UUID, Matched]:
    """What was found, and for whom nobody can serve on the clock what may be proposed."""
    told = dict(found)
    supply = Supply()
    for order in orders:
        one = found[order.order_id]
        order_of = states[order.order_id].order
        if one.match.choice is not None or waits(one.match) or order_of is None:
            continue
        rung = order.rungs[-1]
        unserved = Unserved(order, rung.tier, rung.due_at, order_of.expires_at)
        for _ in range(READS_MAX):
            terms, missing = terms_for(index, city, unserved, supply, now)
            if not missing:
                told[order.order_id] = replace(one, terms=terms)
                break
            supply.free |= await read(missing)
    return told
