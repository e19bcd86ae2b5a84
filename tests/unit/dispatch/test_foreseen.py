"""What is kept of an order that may come, and what a batch of facts leaves of it."""

from datetime import timedelta

import numpy as np
import pytest

from schemas.values import Outcome
from services.dispatch.domain import ahead
from services.dispatch.domain.candidates import CityIndex, Supply
from services.dispatch.foreseen import Foreseen, Issued
from services.dispatch.ledger import plan_of
from services.kit.decision import Message
from services.kit.service import Change, Incoming, Source
from services.kit.spec import NOW, ORDER_ID, Given
from tests.unit.dispatch import samples as s


def left_by(*messages: Message) -> tuple[bool, bool]:
    """Whether a row is written, and whether one is taken away, by one batch."""
    before, changes = s.unknown(), []
    for message in messages:
        outcome = before.when(message)
        told = Incoming(ORDER_ID, ORDER_ID, s.uid(2), message, Source.RECORD)
        events = outcome.decision.events
        changes.append(Change(ORDER_ID, s.uid(2), before.state, outcome.state, told, events, ()))
        before = Given(before.domain, outcome.state)
    plan = plan_of(changes)
    return ORDER_ID in plan.foreseen, ORDER_ID in plan.no_longer_foreseen


@pytest.mark.parametrize(
    ("messages", "written", "gone"),
    [
        ((s.issued(),), True, False),
        ((s.issued(), s.issued()), True, False),
        ((s.issued(), s.authorised()), False, True),
        ((s.issued(), s.closed(Outcome.REJECTED)), False, True),
        ((s.issued(), s.declined()), False, True),
        ((s.authorised(), s.issued()), False, False),
        ((s.closed(Outcome.CANCELLED), s.issued()), False, False),
        ((s.issued(), s.authorised(), s.issued()), False, True),
    ],
    ids=["new", "twice", "let through", "rejected", "declined", "late", "dead", "late again"],
)
def test_only_who_may_still_come_is_kept(
    messages: tuple[Message, ...], written: bool, gone: bool
) -> None:
    assert left_by(*messages) == (written, gone)


def test_nothing_of_the_person_is_kept() -> None:
    kept = Issued.of(s.order()).model_dump(mode="json")
    assert set(kept) == {"tier", "point", "lines", "insured", "issued_at"}
    fields = {"line_id", "prescription_id", "product_code", "quantity", "cold_chain"}
    assert {name for line in kept["lines"] for name in line} == fields


def test_its_row_is_never_firm_and_is_found_again_in_another_index() -> None:
    there = [s.pharmacy(100 + n, lat=31.23 + 0.001 * n) for n in range(3)]
    pairs = [(one.pharmacy_id, line.product_code) for one in there for line in s.LINES]
    memory, issued = Foreseen(), {ORDER_ID: Issued.of(s.order())}
    index = CityIndex(there)
    assert memory.unknown(s.CITY, [ORDER_ID]) == [ORDER_ID]
    assert memory.look(s.CITY, index, issued, Supply(), NOW).missing == set(pairs)
    assert memory.rows(s.CITY, index, NOW) == []
    assert not memory.look(s.CITY, index, issued, Supply(dict.fromkeys(pairs, 3)), NOW).missing
    (row,) = memory.rows(s.CITY, index, NOW)
    assert (row.firm, row.at_s, row.worth) == (False, ahead.BY_PERSON_S, ahead.RELEASED_SHARE)
    assert memory.unknown(s.CITY, [ORDER_ID]) == []
    fewer = CityIndex(there[1:])
    (row,) = memory.rows(s.CITY, fewer, NOW + timedelta(seconds=1))
    names = [fewer.pharmacies[int(n)].pharmacy_id for n in row.numbers]
    assert names == [one.pharmacy_id for one in there[1:]]
    assert np.all(np.diff(row.metres) >= 0)
    # What came through or ended is forgotten with its row.
    assert memory.unknown(s.CITY, []) == []
    assert memory.rows(s.CITY, fewer, NOW) == []


def test_an_order_whose_row_goes_between_two_reads_is_not_looked_for() -> None:
    """Another worker lets it through while the tick reads who may come."""
    memory, index = Foreseen(), CityIndex([s.pharmacy(100)])
    assert memory.unknown(s.CITY, [ORDER_ID]) == [ORDER_ID]
    assert not memory.look(s.CITY, index, {}, Supply(), NOW).missing
    assert memory.rows(s.CITY, index, NOW) == []
