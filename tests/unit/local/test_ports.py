"""Which ports an instance takes."""

import socket

import pytest

from services.local import ports
from services.local.errors import PortBusy


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind((ports.HOST, 0))
    listener.listen(1)
    return listener


def test_a_free_port_is_kept() -> None:
    port = ports.pick(set())
    assert ports.pick(set(), preferred=port) == port


def test_a_taken_port_is_replaced() -> None:
    with _listen() as listener:
        busy = listener.getsockname()[1]
        assert ports.pick(set(), preferred=busy) != busy


def test_no_port_is_given_twice() -> None:
    port = ports.pick(set())
    assert ports.pick({port}, preferred=port) != port


def test_ports_stay_out_of_the_range_of_outgoing_connections() -> None:
    lowest_ephemeral = int(ports._EPHEMERAL.read_text().split()[0])
    assert lowest_ephemeral < ports.LOWEST or ports.pick(set()) < lowest_ephemeral


def test_a_busy_port_that_was_asked_for_is_refused_in_one_sentence() -> None:
    with _listen() as listener:
        busy = listener.getsockname()[1]
        with pytest.raises(PortBusy, match=f"Port {busy} on 127.0.0.1 is in use") as caught:
            ports.demand(busy)
    assert caught.value.exit_code == 10
    assert "\n" not in str(caught.value)
