"""How far simulated time may move next: what is due close together goes together."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.sandbox.agenda import Agenda, Due

QUANTUM_S_MIN, QUANTUM_S_MAX, QUANTUM_S_UNLIMITED = 4.0, 40.0, 10.0
TIMERS_S = 2.0
BEHIND_S = 2.0
JUMP_S = 60.0


@dataclass(frozen=True)
class Step:
    """Time moves to `to`, and these acts begin there."""

    to: datetime
    acts: list[Due]


class Pace:
    """Chooses steps; `speed` is simulated seconds a real second, None without limit.

    A quantum of acts is done at the middle of its span, so that the error has no sign. No
    quantum holds both an act and a later timer: which of them comes first is never left to the
    machine. Where nothing is due for longer than `JUMP_S`, time jumps. Behind the speed that was
    asked for, quanta grow; ahead of it, they shrink.
    """

    def __init__(self, start: datetime, speed: float | None) -> None:
        self.speed = speed
        self.quantum_s = QUANTUM_S_UNLIMITED if speed is None else QUANTUM_S_MIN
        self._began = self._stepped = time.monotonic()
        self._start = self._at = start
        self.steps = 0

    def next(self, agenda: Agenda, timer: datetime | None, now: datetime) -> Step | None:
        """The next step; None when nothing is planned at all."""
        act_at = agenda.next_at()
        if act_at is None and timer is None:
            return None
        self.steps += 1
        if act_at is None or (timer is not None and timer < act_at):
            assert timer is not None
            to = timer + timedelta(seconds=TIMERS_S)
            return Step(max(now, to if act_at is None else min(to, act_at)), [])
        end = act_at + timedelta(seconds=self.quantum_s)
        acts = agenda.take(end if timer is None else min(end, timer))
        return Step(max(now, act_at + (acts[-1].at - act_at) / 2), acts)

    def wait_s(self, to: datetime) -> float:
        """Real seconds to wait before time may move there; also settles the next quantum."""
        real, last, gap_s = time.monotonic(), self._stepped, (to - self._at).total_seconds()
        self._stepped, self._at = real, to
        if self.speed is None:
            return 0.0
        behind = real - self._began - (to - self._start).total_seconds() / self.speed
        factor = 1.15 if behind > BEHIND_S else 0.95
        self.quantum_s = min(QUANTUM_S_MAX, max(QUANTUM_S_MIN, self.quantum_s * factor))
        wait_s = max(0.0, min(gap_s, JUMP_S) / self.speed - (real - last))
        self._stepped += wait_s
        return wait_s
