"""What all faults have in common."""

import random
import shutil
from pathlib import Path

from services.commands.chaos.scene import Scene
from services.local.errors import LocalError

REPLACED_WITHIN_S = 240.0
NO_TIME = "no time was left"


class NotRun(Exception):
    """This fault cannot be done here, or had nothing to strike: it counts as not run."""


class NothingThere(NotRun):
    """Nothing to strike at this moment; a little later there may be."""


class Broken(LocalError):
    """Something that must hold after this fault does not."""


class Fault:
    """One blow. It draws whom it strikes when it is made, and is used once."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        self.scene = scene
        self.system = scene.system
        self.dice = dice
        # What no other fault may touch at the same time.
        self.touches: frozenset[str] = frozenset()
        self.whom = ""

    def missing(self) -> str:
        """Why it cannot be run on this machine; empty when it can."""
        return ""

    async def strike(self) -> None:
        """Begin the harm. Raises NotRun."""

    async def heal(self) -> None:
        """End the harm and wait until what was struck works again. Raises NotRun or Broken."""

    async def verify(self) -> None:
        """After everything has settled: what must hold beyond the invariants. Raises Broken."""

    async def tidy(self) -> None:
        """After `verify`: what a person would do about it, so that every order can end."""

    def one_of(self, names: tuple[str, ...]) -> str:
        """Draw whom to strike."""
        self.whom = self.dice.choice(names)
        return self.whom

    async def replaced(self, name: str, pid: int) -> None:
        """Until another process does its work. Raises StartFailed."""
        await self.system.wait_replaced(name, pid, REPLACED_WITHIN_S)

    async def ready(self, name: str) -> None:
        """Until it says that it takes work. Raises StartFailed."""
        await self.system.wait_ready(name, seconds=REPLACED_WITHIN_S)


def must(holds: bool, text: str) -> None:
    """Raises Broken with the text."""
    if not holds:
        raise Broken(text)


def needs_tool(name: str) -> str:
    """Why a program cannot be used; empty when it is there."""
    return "" if shutil.which(name) else f"{name} is not installed"


def said_since(log: Path, mark: int) -> str:
    """What a process has written to its log since it had so many bytes."""
    try:
        with log.open("rb") as file:
            # A log that grew too large was cut in the meantime.
            file.seek(mark if log.stat().st_size >= mark else 0)
            return file.read().decode(errors="replace")
    except OSError:
        return ""
