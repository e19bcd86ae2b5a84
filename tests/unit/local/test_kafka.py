"""What the broker of an instance remembers of the machine that it ran on."""

from pathlib import Path

import pytest

from services.local import kafka
from services.local.kafka import Kafka


class Machine:
    """One whose boots are told."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._says = tmp_path / "boot_id"
        self._folder = tmp_path / "kafka"
        (self._folder / "data").mkdir(parents=True)
        monkeypatch.setattr(kafka, "BOOT", self._says)
        self.boots("first")

    def boots(self, name: str) -> None:
        self._says.write_text(name)

    def ends_well(self, well: bool) -> None:
        mark = self._folder / "data" / ".kafka_cleanshutdown"
        mark.touch() if well else mark.unlink(missing_ok=True)

    def broker(self) -> Kafka:
        """As it is launched."""
        broker = Kafka(self._folder, port=1, controller_port=2, log=self._folder / "kafka.log")
        broker._remember_boot()
        return broker


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_broker_that_is_killed_has_lost_nothing(machine: Machine) -> None:
    machine.broker()
    machine.ends_well(False)
    assert not machine.broker().lost_power


def test_a_machine_that_was_shut_down_in_order_has_lost_nothing(machine: Machine) -> None:
    machine.broker()
    machine.ends_well(True)
    machine.boots("second")
    assert not machine.broker().lost_power


def test_a_machine_that_went_down_under_it_may_have_lost_the_newest(machine: Machine) -> None:
    machine.broker()
    machine.boots("second")
    assert machine.broker().lost_power
    # Also when the first start after it ends before that is mended.
    machine.ends_well(True)
    broker = machine.broker()
    assert broker.lost_power
    broker.mended()
    assert not machine.broker().lost_power


def test_a_system_that_does_not_tell_its_boots_is_believed(machine: Machine) -> None:
    machine.broker()
    machine._says.unlink()
    assert not machine.broker().lost_power
