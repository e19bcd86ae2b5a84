"""The payer and the payment provider in memory: what really happened, whatever was answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from services.kit.calls import CallUnknown, Reply
from services.kit.decision import CallOutcome

Request = Mapping[str, Any]
KINDS = (
    "eligibility",
    "presettle",
    "settle",
    "undo",
    "reverse",
    "hold",
    "capture",
    "release",
    "refund",
)


@dataclass
class Settlement:
    """What the payer paid for one attempt."""

    order: str
    fund_fen: int
    account_fen: int
    state: str = "settled"


@dataclass
class Hold:
    """A share at the payment provider."""

    order: str
    amount_fen: int
    state: str = "held"


@dataclass
class FarSides:
    """Both books. Each call is done once by its key; what was reversed can never arrive."""

    rng: Random
    refuses: float = 0.05
    settlements: dict[str, Settlement] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    answers: dict[str, Reply] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    in_the_air: list[tuple[str, Request, str]] = field(default_factory=list)

    def act(self, kind: str, request: Request, key: str) -> Reply:
        """The call arrives."""
        if key not in self.answers:
            dead = key in self.dead
            self.answers[key] = _refused("reversed") if dead else self._act(kind, request, key)
        return self.answers[key]

    def land(self) -> None:
        """A call that was given up arrives after all."""
        if self.in_the_air:
            self.act(*self.in_the_air.pop(self.rng.randrange(len(self.in_the_air))))

    def ledgers(self) -> dict[str, list[dict[str, Any]]]:
        """Both books by order, as the sandbox's ledgers tell them."""
        payer = [
            {"order_ref": s.order, "fund_fen": s.fund_fen, "account_fen": s.account_fen}
            for s in self.settlements.values()
            if s.state == "settled"
        ]
        payment = [
            {
                "order_ref": hold.order,
                "held_fen": hold.amount_fen if hold.state == "held" else 0,
                "captured_fen": hold.amount_fen if hold.state == "captured" else 0,
            }
            for hold in self.holds.values()
            if hold.state in ("held", "captured")
        ]
        return {"payer": payer, "payment": payment}

    def _act(self, kind: str, request: Request, key: str) -> Reply:
        order = key.partition(":")[0]
        match kind:
            case "eligibility" | "presettle" | "settle" | "hold" if self._refuses():
                return _refused("not_eligible")
            case "presettle":
                return self._presettle(request, key)
            case "settle":
                split = request["split"]
                self.settlements[key] = Settlement(order, split["fund_fen"], split["account_fen"])
                return _done(settlement_id=f"S-{key}", split=split)
            case "hold":
                self.holds[key] = Hold(order, request["amount_fen"])
            case "undo":
                self.settlements[request["settlement_id"].removeprefix("S-")].state = "undone"
            case "reverse":
                self._reverse(f"{order}:{request['original_kind']}:{request['original_ref']}")
            case "capture" | "release" | "refund":
                return self._move(kind, f"{order}:hold:{request['hold_ref']}", request)
        return _done()

    def _presettle(self, request: Request, key: str) -> Reply:
        total = sum(line["unit_price_fen"] * line["quantity"] for line in request["lines"])
        fund = total * self.rng.choice((0, 6, 9, 10)) // 10
        account = (total - fund) // self.rng.choice((1, 2, 3))
        cash = total - fund - account
        split = {
            "total_fen": total,
            "fund_fen": fund,
            "account_fen": account,
            "cash_fen": cash,
        }
        return _done(presettlement_id=f"P-{key}", split=split)

    def _reverse(self, original: str) -> None:
        self.dead.add(original)
        if original in self.settlements:
            self.settlements[original].state = "undone"

    def _move(self, kind: str, hold_key: str, request: Request) -> Reply:
        hold = self.holds.get(hold_key)
        if hold is not None and (left := request.get("left_fen")):
            assert (kind, hold.state) == ("refund", "captured")
            hold.amount_fen = min(hold.amount_fen, left)
            return _done()
        if kind == "capture":
            if hold is None or hold.state not in ("held", "captured"):
                return _refused("not_held")
            hold.state = "captured"
            return _done()
        if kind == "release" and hold is not None and hold.state == "captured":
            return _refused("captured")
        self.dead.add(hold_key)
        if hold is not None and hold.state in ("held", "captured"):
            hold.state = "refunded" if hold.state == "captured" else "released"
        return _done()

    def _refuses(self) -> bool:
        return self.rng.random() < self.refuses


class Line:
    """The wire to one kind of call: it may break before the call arrives, or behind it."""

    timeout_s = 5.0

    def __init__(self, kind: str, far: FarSides, breaks: float) -> None:
        self._kind = kind
        self._far = far
        self.breaks = breaks

    async def send(self, request: Request, key: str) -> Reply:
        """Raises CallUnknown when the wire breaks, whether or not the call arrived."""
        if self._far.rng.random() >= self.breaks:
            return self._far.act(self._kind, request, key)
        match self._far.rng.choice(("lost", "arrived", "late")):
            case "arrived":
                self._far.act(self._kind, request, key)
            case "late":
                self._far.in_the_air.append((self._kind, request, key))
        raise CallUnknown("the wire broke")

    async def query(self, request: Request, key: str) -> Reply | None:
        """What arrived under this key."""
        if self._far.rng.random() < self.breaks:
            raise CallUnknown("the wire broke")
        return self._far.answers.get(key)


def lines(far: FarSides, breaks: float) -> dict[str, Line]:
    """One for each kind of call."""
    return {kind: Line(kind, far, breaks) for kind in KINDS}


def _done(**response: Any) -> Reply:
    return Reply(CallOutcome.DONE, response)


def _refused(code: str) -> Reply:
    return Reply(CallOutcome.REFUSED, {"code": code})
