"""The payment provider: holds the patient's share, captures it, lets it go or gives it back.

Whoever does not pay (a drawn part of the orders) has the hold refused. Everything after a hold
names it by the key of its call, so that a hold of unknown outcome can be let go as well.
"""

from pydantic import Field

from services.kit.db import Connection
from services.sandbox.far_side import (
    Body,
    FarSide,
    Kind,
    Ledger,
    Refusal,
    Reply,
    kill,
    lock,
    order_of,
    run,
)
from services.sandbox.profile import Profile, draw

TAKE_HOLD = "SELECT state, amount_fen FROM hold WHERE key = $1 FOR UPDATE"
HOLD = """
INSERT INTO hold (key, order_ref, order_number, attempt, amount_fen, state)
VALUES ($1, $2, $3, $4, $5, 'held')
"""
LEAVE = "UPDATE hold SET amount_fen = $2 WHERE key = $1"
MOVE = "UPDATE hold SET state = $2 WHERE key = $1"
TOTALS = """
SELECT count(*) AS holds,
       count(*) FILTER (WHERE state = 'captured') AS captured,
       coalesce(sum(amount_fen) FILTER (WHERE state = 'held'), 0)::bigint AS held_fen,
       coalesce(sum(amount_fen) FILTER (WHERE state = 'captured'), 0)::bigint AS captured_fen
FROM hold
"""
ORDERS = """
SELECT order_ref, order_number, count(*) AS holds,
       coalesce(sum(amount_fen) FILTER (WHERE state = 'held'), 0)::bigint AS held_fen,
       coalesce(sum(amount_fen) FILTER (WHERE state = 'captured'), 0)::bigint AS captured_fen
FROM hold GROUP BY order_ref, order_number ORDER BY order_ref
"""


class Hold(Body):
    """Set the patient's share aside."""

    attempt: int
    amount_fen: int = Field(gt=0)


class OfHold(Body):
    """What becomes of a hold."""

    hold_key: str


class Refund(OfHold):
    """Give back what was taken, down to `left_fen`: told twice, it is done once."""

    left_fen: int = Field(default=0, ge=0)


class Capture(OfHold):
    """All of it goes to the pharmacy."""

    amount_fen: int = Field(gt=0)


def pays(profile: Profile, seed: int, order_number: str) -> bool:
    """Whether the patient of this order pays."""
    return draw(seed, "payment", "pays share", order_number) < profile.patient.pays_share


class Payment:
    """The provider's decisions."""

    def __init__(self, profile: Profile, seed: int) -> None:
        kinds = {
            "hold": Kind(Hold, self.hold),
            "capture": Kind(Capture, self.capture),
            "release": Kind(OfHold, self.release),
            "refund": Kind(Refund, self.refund),
        }
        self._profile, self._seed = profile, seed
        self.side = FarSide("payment", profile, seed, kinds, Ledger(TOTALS, ORDERS))

    async def hold(self, conn: Connection, key: str, body: Hold) -> Reply:
        """Set the share aside, if the patient pays."""
        if not pays(self._profile, self._seed, body.order_number):
            raise Refusal("not_paid", "the patient did not pay")
        await conn.execute(
            HOLD, key, order_of(key), body.order_number, body.attempt, body.amount_fen
        )
        return {"result": "done"}

    async def capture(self, conn: Connection, key: str, body: Capture) -> Reply:
        """All of a hold, once; captured again is captured."""
        state, amount_fen = await _take(conn, key, body)
        if state not in ("held", "captured"):
            raise Refusal("not_held", f"this hold is {state}")
        if amount_fen != body.amount_fen:
            raise Refusal("other_amount", "only the whole hold can be captured")
        await conn.execute(MOVE, body.hold_key, "captured")
        return {"result": "done"}

    async def release(self, conn: Connection, key: str, body: OfHold) -> Reply:
        """Let a hold go, whether it ever came or not; a captured one must be refunded."""
        state, _ = await _take(conn, key, body)
        if state == "captured":
            raise Refusal("captured", "this hold was captured: refund it")
        if state == "held":
            await conn.execute(MOVE, body.hold_key, "released")
        await kill(conn, body.hold_key)
        return {"result": "done"}

    async def refund(self, conn: Connection, key: str, body: Refund) -> Reply:
        """Give back whatever was taken under a hold, or all but a part of it."""
        state, amount_fen = await _take(conn, key, body)
        if body.left_fen:
            if state != "captured":
                raise Refusal("not_captured", f"this hold is {state}")
            await conn.execute(LEAVE, body.hold_key, min(amount_fen, body.left_fen))
            return {"result": "done"}
        if state in ("held", "captured"):
            after = "refunded" if state == "captured" else "released"
            await conn.execute(MOVE, body.hold_key, after)
        await kill(conn, body.hold_key)
        return {"result": "done"}


async def _take(conn: Connection, key: str, body: OfHold) -> tuple[str, int]:
    """State (`unknown` where there is none) and amount of the caller's own hold, locked."""
    if order_of(body.hold_key) != order_of(key):
        raise Refusal("not_yours", "the hold belongs to another order")
    await lock(conn, body.hold_key)
    row = await conn.fetchrow(TAKE_HOLD, body.hold_key)
    return (row["state"], row["amount_fen"]) if row else ("unknown", 0)


def main() -> None:
    """Run the payment provider of a sandbox."""
    run(lambda profile, seed: Payment(profile, seed).side)


if __name__ == "__main__":
    main()
