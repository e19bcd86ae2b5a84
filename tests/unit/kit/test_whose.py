"""An aggregate that is new belongs to whom its facts name, whoever sent a command to it first."""

import pytest

from schemas.claim import OrderClosed
from schemas.delivery import ConfirmOrder
from schemas.values import Outcome
from services.kit.decision import Actor
from services.kit.handler import tenants_of
from services.kit.ids import new_id
from services.kit.service import Incoming, Source

ORDER, HOSPITAL, CHAIN = new_id(), new_id(), new_id()


def a_fact() -> Incoming:
    fact = OrderClosed(order_id=ORDER, outcome=Outcome.CANCELLED, attempt=0)
    return Incoming(new_id(), ORDER, HOSPITAL, fact, Source.RECORD)


def a_command(source: Source) -> Incoming:
    command = ConfirmOrder(order_id=ORDER, attempt=1, token="t" * 16, pharmacist="P-1")
    actor = Actor(CHAIN, "pharmacy_chain", "chain-a")
    return Incoming(new_id(), ORDER, CHAIN, command, source, actor)


@pytest.mark.parametrize("source", [Source.INTAKE, Source.HTTP])
def test_a_fact_says_whose_it_is_wherever_it_stands_in_the_batch(source: Source) -> None:
    assert tenants_of([a_command(source), a_fact()]) == {ORDER: HOSPITAL}
    assert tenants_of([a_fact(), a_command(source)]) == {ORDER: HOSPITAL}


def test_without_a_fact_it_is_the_first_sender_s() -> None:
    assert tenants_of([a_command(Source.HTTP)]) == {ORDER: CHAIN}
