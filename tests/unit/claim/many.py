"""Many claims through the domain, against a payer with books, an arithmetic and faults of its own.

Nothing here goes over a wire or to a disk: the decisions, the arithmetic on both sides and both
books are the real ones, the shell, the messages and the databases are not part of it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from schemas.claim import DecideDispute, DisputeDecision
from schemas.values import LinePrice
from services.catalogue import products
from services.claim import domain
from services.claim.book import book
from services.claim.domain.checking import Known
from services.claim.domain.notes import SettlementMade, SettlementUndone, Use
from services.claim.domain.state import Phase, Step
from services.claim.ledger import Account, transfer_of
from services.kit.decision import Actor, CallAnswered, CallOutcome, Decision, Message
from services.kit.spec import NOW, ORDER_ID, facts_for
from services.sandbox import arithmetic, insured
from services.sandbox.arithmetic import Used
from services.sandbox.insured import Row
from services.sandbox.payer import Line, shares_of, split_of, told
from tests.unit.claim import story as s
from tests.unit.claim.story import Story

AREA = "990101"
OPERATOR = Actor(UUID(int=ORDER_ID.int + 1), "operator", "operations")
FAULTS = ("lost", "silent", "wrong", "twice")
CODES = tuple(sorted(products()))
STEPS_MAX = 200
IDS = tuple(UUID(int=ORDER_ID.int + 0x1000 + n) for n in range(8))


class Brisk(Story):
    """Without looking each time whether the state survives its storing."""

    def hear(self, message: Message, actor: Actor | None = None) -> Decision:
        """Decide a message and fold what was decided."""
        made = facts_for(actor=actor, ids=IDS, found=self.found)
        decision = domain.decide(self.state, message, self.now, made)
        for fact in decision.events:
            self.state = domain.evolve(self.state, fact)
        self.facts += decision.events
        self._keep(decision)
        return decision


@dataclass
class Payer:
    """Persons with their year, and what stands settled, by number."""

    dice: Random
    share: float
    persons: dict[int, Row] = field(default_factory=dict)
    standing: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)

    def person(self, number: int) -> Row:
        """As the books have them; drawn at first sight."""
        if number not in self.persons:
            used = Used(deductible={"ordinary": self.dice.choice([arithmetic.ZERO, insured.ALL])})
            kind, balance = self.dice.choice(["310", "390"]), self.dice.randrange(20_000)
            self.persons[number] = Row(f"P-{number}", kind, "11", balance, {}, used)
        return self.persons[number]

    def fault(self) -> str:
        """What goes wrong with the next message, "" for nothing."""
        if self.dice.random() >= self.share:
            return ""
        found = self.dice.choice(FAULTS)
        self.faults[found] += 1
        return found

    def price(self, who: Row, request: Any) -> tuple[dict[str, Any], Any]:
        """Who bears what, and what it uses up."""
        lines = [Line.model_validate(row) for row in request["lines"]]
        person = who.insured(NOW.year)
        shares = shares_of(AREA, NOW, person, lines)
        reply = told(NOW, person, shares)
        bill = {name: value for name, value in reply["bill"].items() if name != "behind"}
        cuts = [{k: v for k, v in c.items() if k.endswith(("_fen", "_id"))} for c in bill["lines"]]
        return {"split": split_of(shares), "bill": bill | {"lines": cuts}}, shares

    def act(self, number: int, order: str, call: Any, wrong: bool) -> dict[str, Any]:
        """One message takes effect."""
        match call.kind:
            case "eligibility":
                who = self.person(number)
                return {
                    "insutype": who.insutype,
                    "psn_type": who.psn_type,
                    "person_ref": who.psn_no,
                }
            case "presettle":
                priced, _ = self.price(self.person(number), call.request)
                return {"presettlement_id": f"PS-{order}", **_altered(priced, wrong)}
            case "settle":
                return self._settle(number, f"{order}:{call.ref}", call.request, wrong)
            case "undo":
                self._undo(number, call.request["settlement_id"])
            case _:
                self._undo(number, f"{order}:{call.request['original_ref']}")
        return {}

    def _settle(self, number: int, key: str, request: Any, wrong: bool) -> dict[str, Any]:
        if key not in self.standing:
            priced, shares = self.price(self.person(number), request)
            priced = _altered(priced, wrong)
            account_fen = priced["split"]["account_fen"]
            self._move(number, shares.uses, account_fen, 1)
            self.standing[key] = {"priced": priced, "uses": shares.uses}
        priced = self.standing[key]["priced"]
        return {"settlement_id": key, "presettlement_id": "", "msgid": key, **priced}

    def _undo(self, number: int, key: str) -> None:
        gone = self.standing.pop(key, None)
        if gone:
            self._move(number, gone["uses"], gone["priced"]["split"]["account_fen"], -1)

    def _move(self, number: int, uses: Used, account_fen: int, sign: int) -> None:
        who = self.person(number)
        years = {str(NOW.year): insured.moved(who.insured(NOW.year).used, uses, sign)}
        balance = who.balance_fen - sign * account_fen
        self.persons[number] = Row(
            who.psn_no, who.insutype, who.psn_type, balance, years, who.first
        )


@dataclass
class Provider:
    """The payment provider: what is held and what was taken, by order and hold."""

    taken: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def act(self, order: str, call: Any) -> None:
        """One call takes effect."""
        if call.kind == "hold":
            self.held[f"{order}:{call.ref}"] = call.request["amount_fen"]
            return
        key = f"{order}:{call.request['hold_ref']}"
        fen = self.held.pop(key, 0)
        if call.kind == "capture":
            self.taken[key] = self.taken.get(key, 0) + fen
        elif call.kind == "refund":
            self.taken.pop(key, None)


@dataclass
class Market:
    """All claims of one run."""

    payer: Payer
    provider: Provider = field(default_factory=Provider)
    outcomes: Counter[str] = field(default_factory=Counter)
    unexplained_fen: int = 0
    disputes: int = 0

    def claim(self, number: int, person: int) -> None:
        """One order from approval to its end, then both books compared."""
        order, story = f"O{number}", Brisk(found=Known(book()))
        before = self.payer.person(person)
        dice = self.payer.dice
        area = s.order().model_copy(update={"payer_area": AREA})
        story.apply(s.approved().model_copy(update={"order": area}))
        self._quiet(story, order, person)
        code, count = dice.choice(CODES), dice.randrange(1, 4)
        price = LinePrice(
            line_id=s.LINE,
            product_code=code,
            quantity=count,
            unit_price_fen=dice.randrange(100, 20_000),
        )
        story.apply(s.assigned().model_copy(update={"prices": (price,)}))
        self._quiet(story, order, person)
        if story.state.attempt and story.state.attempt.step is Step.PRICED:
            story.apply(s.sealed())
            self._quiet(story, order, person)
        if story.state.phase is Phase.OPEN:
            story.apply(s.delivered() if dice.random() < 0.9 else s.returned())
            self._quiet(story, order, person)
        assert story.state.phase is Phase.CLOSED, story.state
        self.outcomes[str(story.state.outcome)] += 1
        assert self._year_follows(story, order, before, person), (number, before)
        self._compare(story, order)

    def _quiet(self, story: Story, order: str, person: int) -> None:
        for _ in range(STEPS_MAX):
            state = story.state
            if story.calls:
                self._answer(story, order, person)
            elif state.dispute:
                self.disputes += 1
                wish = DecideDispute(
                    order_id=ORDER_ID,
                    ref=state.dispute.ref,
                    decision=DisputeDecision.ASK_AGAIN,
                    reason="compared with the payer",
                )
                story.apply(wish, OPERATOR)
            elif state.ask:
                story.ask(state.ask.options[0])
            elif state.rest:
                story.now += timedelta(minutes=1)
                story.fire("again")
            else:
                return
        raise AssertionError(f"no end: {story.state}")

    def _answer(self, story: Story, order: str, person: int) -> None:
        call = story.calls[0]
        if call.kind in ("hold", "capture", "release", "refund"):
            self.provider.act(order, call)
            story.apply(CallAnswered(call.kind, call.ref, CallOutcome.DONE, {}))
            return
        fault = self.payer.fault()
        if fault == "lost":
            story.apply(CallAnswered(call.kind, call.ref, CallOutcome.UNKNOWN, {}))
            return
        response = self.payer.act(person, order, call, fault == "wrong")
        if fault == "twice":
            response = self.payer.act(person, order, call, False)
        silent = fault == "silent"
        outcome = CallOutcome.UNKNOWN if silent else CallOutcome.DONE
        story.apply(CallAnswered(call.kind, call.ref, outcome, {} if silent else response))

    def _year_follows(self, story: Story, order: str, before: Row, person: int) -> bool:
        """Whether year and balance are as before but for what stands, there and in our books."""
        first, now = before.insured(NOW.year).used, self.payer.person(person)
        used, balance_fen = first, before.balance_fen
        for key, row in self.payer.standing.items():
            if key.startswith(f"{order}:"):
                used = insured.moved(used, row["uses"], 1)
                balance_fen -= row["priced"]["split"]["account_fen"]
        after = now.insured(NOW.year).used
        theirs = {pool: insured.fen(yuan) for pool, yuan in after.fund.items()}
        ours = {pool: insured.fen(yuan) for pool, yuan in first.fund.items()}
        for use in _uses(story):
            ours |= {pool: ours.get(pool, 0) + fen for pool, fen in use.uses.fund.items()}
        same = all(_some(getattr(after, n)) == _some(getattr(used, n)) for n in insured.FIELDS)
        same = same and after.burden == used.burden and now.balance_fen == balance_fen
        return same and _some(ours) == _some(theirs)

    def _compare(self, story: Story, order: str) -> None:
        ours: Counter[Account] = Counter()
        for fact in story.facts:
            transfer = transfer_of(fact)
            for account, fen in transfer.entries if transfer else ():
                ours[account] += fen
        splits = [
            row["priced"]["split"]
            for key, row in self.payer.standing.items()
            if key.startswith(f"{order}:")
        ]
        theirs = {
            Account.FUND: -sum(split["fund_fen"] for split in splits),
            Account.PERSONAL: -sum(split["account_fen"] for split in splits),
            Account.PATIENT: -sum(
                fen for key, fen in self.provider.taken.items() if key.startswith(f"{order}:")
            ),
            Account.CLEARING: 0,
        }
        self.unexplained_fen += sum(abs(ours[name] - fen) for name, fen in theirs.items())
        self.unexplained_fen += abs(sum(ours.values()))
        # What was compared is let go, or each comparison would look through all that went before.
        for key in [key for key in self.payer.standing if key.startswith(f"{order}:")]:
            del self.payer.standing[key]
        self.provider.taken.clear()


def _uses(story: Story) -> list[Use]:
    """What the settlements that stand took of the year, by our own books."""
    found: dict[str, Use] = {}
    for fact in story.facts:
        match fact:
            case SettlementMade(use=Use() as use):
                found[fact.settlement_id] = use
            case SettlementUndone():
                found.pop(fact.settlement_id, None)
            case _:
                pass
    return list(found.values())


def _some(pools: Mapping[str, Any]) -> dict[str, Any]:
    return {pool: fen for pool, fen in pools.items() if fen}


def _altered(priced: dict[str, Any], wrong: bool) -> dict[str, Any]:
    """A split that adds up, yet is not the one that was computed."""
    split = priced["split"]
    if not wrong or not split["cash_fen"]:
        return priced
    moved = {"fund_fen": split["fund_fen"] + 1, "cash_fen": split["cash_fen"] - 1}
    return {**priced, "split": {**split, **moved}}


def market(claims: int, seed: int, share: float) -> Market:
    """So many claims of a fifth as many persons, with faults in this share of the messages."""
    dice = Random(seed)
    found = Market(Payer(dice, share))
    for number in range(claims):
        found.claim(number, dice.randrange(max(claims // 5, 1)))
    return found
