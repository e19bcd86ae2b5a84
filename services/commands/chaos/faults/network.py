"""What the wire does: between the services and the broker, the database or the payer."""

import asyncio
import random

from services.commands.chaos.faults.base import Fault
from services.commands.chaos.scene import Scene
from services.local.proxy import Manner, Mode

DELAYS_S = (0.02, 0.1, 0.2)
SLICES_BYTES = (1, 7, 100)
RESETS_BYTES = (1, 500, 20_000)
PROGRESS_WITHIN_S = 60.0


class Wire(Fault):
    """One link misbehaves in one mode, with drawn measures."""

    def __init__(self, scene: Scene, dice: random.Random, link: str, mode: Mode) -> None:
        super().__init__(scene, dice)
        self._proxy = scene.links[link]
        self._manner = Manner(
            mode,
            delay_s=dice.choice(DELAYS_S),
            slice_bytes=dice.choice(SLICES_BYTES),
            reset_after_bytes=dice.choice(RESETS_BYTES),
        )
        self.whom = link
        self.touches = frozenset({f"link {link}"})

    async def strike(self) -> None:
        """From now on."""
        await self._proxy.behave(self._manner)
        if self._manner.mode is Mode.RESET:
            self._proxy.cut_off()

    async def heal(self) -> None:
        """All workers are ready again soon after the wire is whole."""
        await self._proxy.behave(Manner())
        async with asyncio.timeout(PROGRESS_WITHIN_S):
            while self.whom != "payer" and not self._any_ready():
                await asyncio.sleep(0.2)

    def _any_ready(self) -> bool:
        return any(self.system.ready(name) for name in self.scene.workers)
