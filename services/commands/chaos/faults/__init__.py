"""The faults by name: each one small class, with how long it lasts and what it does."""

import random
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from services.commands.chaos.faults import delivery, infrastructure, network, outside, processes
from services.commands.chaos.faults.base import Fault
from services.commands.chaos.scene import LINKS, Scene
from services.local.proxy import Mode

AT_ONCE = (0.0, 0.0)
OUTAGE_S = 600.0


class Kind(NamedTuple):
    """`lasts` is how many seconds pass between strike and heal, at least and at most."""

    make: Callable[[Scene, random.Random], Fault]
    lasts: tuple[float, float]
    does: str


_POINTS = {
    "P0": "an HTTP command is stored, not yet answered",
    "P1": "a batch is read, its transaction not yet begun",
    "P2": "in the middle of a transaction",
    "P3": "committed, not yet acknowledged",
    "P4": "acknowledged, its offset not yet committed at the broker",
    "P5": "a relay has read rows and not yet sent them",
    "P6": "a relay has sent rows and not yet marked them",
    "P7": "the far side has answered, the answer is not yet stored",
    "P8": "a timer is claimed, its effect not yet written",
}
_MODES = {
    "refused": (Mode.REFUSE, (2.0, 15.0), "nobody listens, connections are cut"),
    "stalled": (Mode.STALL, (5.0, 20.0), "connections stand, not a byte moves"),
    "reset": (Mode.RESET, (2.0, 10.0), "connections are reset after some bytes"),
    "delayed": (Mode.DELAY, (5.0, 15.0), "each chunk comes later"),
    "sliced": (Mode.SLICE, (5.0, 15.0), "each chunk comes in small pieces"),
}

FAULTS: Mapping[str, Kind] = {
    "kill": Kind(processes.Kill, AT_ONCE, "SIGKILL of any process of ours or of a simulator"),
    "kill-each": Kind(processes.KillEach, AT_ONCE, "SIGKILL of all services, one after the other"),
    "restart": Kind(
        processes.Restart,
        (0.0, 3.0),
        "SIGTERM of a process, which ends by itself within 8 s, and a new start",
    ),
    "zombie": Kind(processes.Zombie, (45.0, 50.0), "SIGSTOP past session time-out and lease"),
    "skew": Kind(processes.Skew, (8.0, 20.0), "a worker's clock is wrong by 5 min, 65 min, 25 h"),
    **{
        name: Kind(
            partial(processes.Point, point=name),
            AT_ONCE,
            f"kill, exit, exception or 45 s stop where {where}",
        )
        for name, where in _POINTS.items()
    },
    "broker-kill": Kind(
        partial(infrastructure.Ended, name="kafka", number=signal.SIGKILL),
        AT_ONCE,
        "SIGKILL of the broker",
    ),
    "broker-restart": Kind(
        partial(infrastructure.Ended, name="kafka", number=signal.SIGTERM),
        AT_ONCE,
        "the broker ends in good order and starts again",
    ),
    "broker-pause": Kind(
        partial(infrastructure.Paused, name="kafka"), (5.0, 40.0), "SIGSTOP of the broker"
    ),
    "postgres-stop": Kind(
        partial(infrastructure.Ended, name="postgres", number=signal.SIGQUIT),
        AT_ONCE,
        "immediate stop of the database, and recovery",
    ),
    "postgres-pause": Kind(
        partial(infrastructure.Paused, name="postgres"),
        (5.0, 25.0),
        "SIGSTOP of the database and all its backends",
    ),
    "postgres-terminate": Kind(
        infrastructure.BackendsTerminated,
        (2.0, 8.0),
        "pg_terminate_backend of 20, 50 or 100 % of the connections, each second",
    ),
    "postgres-slow-fsync": Kind(
        infrastructure.SlowFsync, (8.0, 20.0), "fsync takes 50 to 400 ms longer (strace)"
    ),
    **{
        f"{link}-{name}": Kind(
            partial(network.Wire, link=link, mode=mode), lasts, f"the wire to the {link}: {does}"
        )
        for link in LINKS
        for name, (mode, lasts, does) in _MODES.items()
    },
    "duplicates": Kind(delivery.ToldTwice, AT_ONCE, "facts and letters are told twice"),
    "reorder": Kind(delivery.Shuffled, AT_ONCE, "facts of a partition come again, shuffled"),
    "late-facts": Kind(
        delivery.LateFacts, (4.0, 12.0), "one service's facts come late, others overtake them"
    ),
    "replay": Kind(delivery.ReadAgain, AT_ONCE, "groups are rewound to the start of their topics"),
    "poison-intake": Kind(delivery.IntakePoison, AT_ONCE, "unreadable letters of every kind"),
    "poison-inner": Kind(delivery.InnerPoison, AT_ONCE, "unreadable records on a topic of ours"),
    "payer-hangs": Kind(
        partial(outside.FarSide, misdeed="hang"), (5.0, 15.0), "no answer, and nothing was done"
    ),
    "payer-errs": Kind(partial(outside.FarSide, misdeed="err"), (5.0, 15.0), "503"),
    "payer-silent": Kind(
        partial(outside.FarSide, misdeed="silent"), (5.0, 15.0), "it acts and falls silent"
    ),
    "pharmacy-twice": Kind(outside.AcceptedTwice, AT_ONCE, "an offer is accepted thrice at once"),
    "pharmacy-cancelled": Kind(
        outside.AcceptedAndCancelled, AT_ONCE, "accepted while and after it is cancelled"
    ),
    "pharmacy-late": Kind(outside.AcceptedLate, AT_ONCE, "accepted after it has expired"),
    "outage-broker": Kind(
        partial(infrastructure.Held, name="kafka"), (OUTAGE_S, OUTAGE_S), "10 min without broker"
    ),
    "outage-postgres": Kind(
        partial(infrastructure.Held, name="postgres"),
        (OUTAGE_S, OUTAGE_S),
        "10 min without database",
    ),
    "outage-workers": Kind(
        infrastructure.WorkersHeld, (OUTAGE_S, OUTAGE_S), "10 min in which nobody consumes"
    ),
}
# What a run without `--faults` draws from: everything that is over in minutes.
USUAL = tuple(name for name in FAULTS if not name.startswith("outage-"))
LASTS = {name: kind.lasts for name, kind in FAULTS.items()}
