"""Partners who misbehave: payer and payment provider, and pharmacies that accept as they like."""

import asyncio
import random
import time
from typing import Any, Literal
from uuid import UUID

import asyncpg
import httpx
import orjson

from schemas.dispatch import AcceptOffer
from services.commands.chaos.faults.base import Fault, NothingThere, must
from services.commands.chaos.scene import Scene
from services.kit.db import FAULTS
from services.sandbox.fates import Answer as Fate
from services.sandbox.post import Answer
from services.sandbox.robots.hospital import CANCEL
from services.sandbox.robots.pharmacy import ACCEPT, CHAIN
from services.sandbox.scripts import Script

FAR_SIDES = ("payer", "payer", "payment")
SHARES = (0.5, 1.0)
ORDERS = 4
OFFERED_WITHIN_S, EXPIRED_WITHIN_S = 60.0, 240.0
LOOK_S = 0.3
FACT = "SELECT body FROM {service}.outbox WHERE key = $1 AND type = $2 ORDER BY id LIMIT 1"

Misdeed = Literal["hang", "err", "silent"]


class FarSide(Fault):
    """Payer or payment provider hangs before acting, errs, or acts and falls silent."""

    def __init__(self, scene: Scene, dice: random.Random, misdeed: Misdeed) -> None:
        super().__init__(scene, dice)
        self.one_of(FAR_SIDES)
        self.touches = frozenset({self.whom})
        self._misdeed = misdeed
        self._share = dice.choice(SHARES)

    async def strike(self) -> None:
        """From now on."""
        await self.ready(self.whom)
        await self._order({"fault": self._misdeed, "share": self._share})

    async def heal(self) -> None:
        """As always again."""
        await self._order({"fault": "none"})

    async def _order(self, fault: dict[str, Any]) -> None:
        url = f"{self.system.address(self.whom)}/misbehave"
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            (await client.post(url, json=fault)).raise_for_status()


class Offers(Fault):
    """Pharmacies that accept an offer which is not theirs to accept, or not any more."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.whom = "pharmacies"
        self.touches = frozenset({f"pharmacies {type(self).__name__}"})
        self._offers: list[tuple[Script, UUID, AcceptOffer]] = []
        self._late: list[Answer] = []

    async def _offered(self) -> None:
        """Some orders whose pharmacies leave the first offer to us. Raises NotRun without any."""
        found = await asyncio.gather(*(self._one_offered() for _ in range(ORDERS)))
        self._offers = [offer for offer in found if offer is not None]
        if not self._offers:
            raise NothingThere("none of its orders was offered to a pharmacy in time")
        self.whom = f"{len(self._offers)} offers"

    async def _one_offered(self) -> tuple[Script, UUID, AcceptOffer] | None:
        script = self.scene.new_order()
        self.scene.fates.told[script.number] = Fate.IGNORE
        order_id = await self.scene.submit(script)
        fact = await self._fact("dispatch", "dispatch.OfferMade", order_id, OFFERED_WITHIN_S)
        if fact is None:
            return None
        offer_id, pharmacy_id = UUID(fact["offer_id"]), UUID(fact["pharmacy_id"])
        command = AcceptOffer(order_id=order_id, offer_id=offer_id, pharmacy_id=pharmacy_id)
        return script, order_id, command

    async def _fact(
        self, service: str, type_: str, order_id: UUID, within_s: float
    ) -> dict[str, Any] | None:
        """The first fact of this type about the order, once there is one."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            try:
                conn = await asyncpg.connect(self.system.pg_dsn, timeout=5)
                try:
                    body = await conn.fetchval(FACT.format(service=service), order_id, type_)
                finally:
                    await conn.close()
            except FAULTS:
                # The database may be away as well.
                body = None
            if body is not None:
                fact: dict[str, Any] = orjson.loads(body)
                return fact
            await asyncio.sleep(LOOK_S)
        return None

    async def _accept(self, command: AcceptOffer) -> Answer:
        return await self.scene.post.command(CHAIN, ACCEPT, command)


class AcceptedTwice(Offers):
    """The same offer is accepted three times at once."""

    async def strike(self) -> None:
        """All three leave together."""
        await self._offered()
        self._answers = [
            await asyncio.gather(*(self._accept(command) for _ in range(3)))
            for _, _, command in self._offers
        ]

    async def verify(self) -> None:
        """All three have the same answer, and so the same token."""
        for answers in self._answers:
            told = {(answer.ok, answer.body.get("token"), answer.code) for answer in answers}
            must(len(told) == 1, f"accepted three times at once: {told}")


class AcceptedAndCancelled(Offers):
    """The patient cancels as the pharmacy accepts; later it tries once more."""

    async def strike(self) -> None:
        """Both at once."""
        await self._offered()
        await asyncio.gather(*(self._race(*offer) for offer in self._offers))

    async def _race(self, script: Script, order_id: UUID, command: AcceptOffer) -> None:
        cancel = script.cancel(order_id, script.spec.placed_at)
        both = [self.scene.post.command(script.hospital, CANCEL, cancel), self._accept(command)]
        self.dice.shuffle(both)
        await asyncio.gather(*both)

    async def verify(self) -> None:
        """Who accepts after the end is refused; to whom it was assigned may be told so again."""
        for script, order_id, command in self._offers:
            assigned = await self._fact("dispatch", "dispatch.PharmacyAssigned", order_id, LOOK_S)
            again = await self._accept(command)
            ours = assigned is not None and assigned["offer_id"] == str(command.offer_id)
            must(
                ours if again.ok else again.code == "offer_closed",
                f"{script.number} accepted after its end: {again.status} {again.code}",
            )


class AcceptedLate(Offers):
    """An offer is accepted after it has expired."""

    async def strike(self) -> None:
        """Wait for the expiry, which takes as long as offers stand."""
        await self._offered()

    async def heal(self) -> None:
        """Then accept. Raises NotRun when no offer expired in time."""
        expired = await asyncio.gather(
            *(
                self._fact("dispatch", "dispatch.OfferExpired", order_id, EXPIRED_WITHIN_S)
                for _, order_id, _ in self._offers
            )
        )
        late = [
            offer
            for offer, fact in zip(self._offers, expired, strict=True)
            if fact is not None and fact["offer_id"] == str(offer[2].offer_id)
        ]
        if not late:
            raise NothingThere("no offer of its orders has expired in time")
        self._late = [await self._accept(command) for _, _, command in late]

    async def verify(self) -> None:
        """It is refused."""
        taken = [answer.body for answer in self._late if answer.ok]
        must(not taken, f"taken after it had expired: {taken}")
