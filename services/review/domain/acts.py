"""Who may put his name to a prescription, and to what exactly he puts it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from schemas.review import DecideCase, EscalateCase
from services.kit.decision import Actor, Decision, Facts, invalid
from services.review.domain.findings import Seal, Told
from services.review.domain.reading import hashed, rules_for
from services.review.domain.state import Act, Lease, Sheet, State, Step
from services.review.rules import Pack, pack
from services.review.rules.case import UNPROVED, Proof
from services.review.rules.policy import ASSISTANT, TITLES, Desk

Word = Literal["approve", "return", "reject", "second", "senior"]


@dataclass(frozen=True, slots=True)
class Beside:
    """What is handed in beside an act: what was proved of its signature, and what seals its words.
    Without a seal the words are not kept."""

    proof: Proof = UNPROVED
    seal: Seal | None = None


def beside(found: object) -> Beside:
    """What lookup found for an act, if it did."""
    return found if isinstance(found, Beside) else Beside()


def rules_of(state: State) -> Pack:
    """The pack that holds today for the order's place."""
    return pack() if state.order is None else rules_for(state.order)


def seen(sheet: Sheet) -> str:
    """The hash of what a pharmacist sees of a prescription: text by version, findings, pack, and
    the acts before. Whatever of it changes makes another hash."""
    shown = {
        "prescription_id": str(sheet.prescription_id),
        "version": sheet.version,
        "rule_pack": sheet.rule_pack,
        "findings": [finding.model_dump(mode="json") for finding in sheet.findings],
        **({"kept": sheet.kept.ciphertext} if sheet.kept else {}),
        "acts": [act.model_dump(mode="json") for act in sheet.acts],
        "wants": sheet.wants,
    }
    text = json.dumps(shown, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def act_of(
    rules: Pack,
    sheet: Sheet,
    held: Lease,
    now: datetime,
    decision: Word,
    code: str = "",
    reason: str = "",
    found: object = None,
) -> Act:
    """The signed act of whoever has the case in hand; `found` is what was looked up for it."""
    known = beside(found)
    return Act(
        prescription_id=sheet.prescription_id,
        version=sheet.version,
        decision=decision,
        pharmacist=held.pharmacist,
        title=held.title,
        tenant_id=held.tenant_id,
        at=now,
        seen=seen(sheet),
        rule_pack=rules.id,
        code=code,
        told=None if known.seal is None or not reason else known.seal(Told(text=reason)),
        proved=known.proof.genuine is True,
        lease=held.lease,
    )


def not_allowed(actor: Actor | None) -> Decision | None:
    """Only tenants that review sit at the desk."""
    if actor is None or actor.kind != "reviewer":
        return invalid("not_allowed", "only a reviewer may do this", status=403)
    return None


def not_open(desk: Desk, state: State, now: datetime, facts: Facts) -> Decision | None:
    """This place's cases lie on certain desks, at certain hours."""
    actor = actor_of(facts)
    waits = [sheet.since for sheet in state.at(Step.PERSON) if sheet.since is not None]
    if desk.admits(actor.name, actor.tenant_id, min(waits, default=None), now):
        return None
    detail = "this case lies on another desk at this hour"
    return invalid("not_your_desk", detail, status=403)


def untitled(desk: Desk, pharmacist: str, title: str, field: str = "title") -> Decision | None:
    """Who signs has a title that may review."""
    if not title:
        detail = "say the title that the pharmacist signs with, like 2.4"
        return invalid("title_missing", detail, field=field, status=422)
    if title not in TITLES:
        return invalid("unknown_title", f"one of: {', '.join(TITLES)}", field=field, status=422)
    if title == ASSISTANT or title not in desk.titles:
        detail = f"{TITLES[title]} may not review"
        return invalid("title_not_allowed", detail, field=field, status=403)
    known = next((t for name, t in desk.roster.items() if hashed(name) == hashed(pharmacist)), "")
    if known and known != title:
        detail = "the roster knows this pharmacist by another title"
        return invalid("title_differs", detail, field=field, status=403)
    if desk.only_roster and not known:
        detail = "the roster does not know this pharmacist"
        return invalid("unknown_pharmacist", detail, field="pharmacist", status=403)
    return None


def not_his(desk: Desk, sheet: Sheet, pharmacist: str, title: str) -> Decision | None:
    """Nobody reviews what he prescribed, nor what he has already passed on."""
    if hashed(pharmacist) == sheet.prescriber:
        detail = "nobody reviews what he prescribed"
        return invalid("own_prescription", detail, field="pharmacist")
    if any(hashed(act.pharmacist) == hashed(pharmacist) for act in acts_now(sheet)):
        detail = "a second, different pharmacist decides this one"
        return invalid("second_needed", detail, field="pharmacist")
    if sheet.wants == "senior" and title not in desk.senior:
        detail = f"a senior pharmacist decides this one: {', '.join(desk.senior)}"
        return invalid("senior_needed", detail, field="pharmacist")
    return None


def acts_now(sheet: Sheet) -> tuple[Act, ...]:
    """What was signed for this version."""
    return tuple(act for act in sheet.acts if act.version == sheet.version)


def wants_second(desk: Desk, sheet: Sheet) -> bool:
    """Whether one more pharmacist must pass what this one passes."""
    if not any(heading.rule in desk.second for heading in sheet.spoken):
        return False
    return not any(act.decision == "approve" for act in acts_now(sheet))


def unseen(sheet: Sheet, shown: str) -> Decision | None:
    """A decision is over what lies there now, or it is none."""
    if not shown:
        detail = "send the hash of what was seen, as the case shows it"
        return invalid("seen_missing", detail, field="seen", status=422)
    if shown != seen(sheet):
        detail = "it has changed since it was seen: look at the case again"
        return invalid("seen_changed", detail, field="seen")
    return None


def unsigned(
    rules: Pack, command: DecideCase | EscalateCase, now: datetime, facts: Facts
) -> Decision | None:
    """A signature that came must hold; where the policy wants one, it must be proved."""
    signature, wanted = command.signature, rules.desk.signed_acts
    if signature is None:
        detail = "sign the act electronically"
        missing = invalid("signature_missing", detail, field="signature", status=422)
        return missing if wanted else None
    if signature.signer != command.pharmacist or signature.automatic:
        detail = "the pharmacist signs in person"
        return invalid("signature_refused", detail, field="signature.signer")
    if abs(now - signature.signed_at) > rules.lease:
        detail = "an act is signed as it is done"
        return invalid("signature_refused", detail, field="signature.signed_at")
    proof = beside(facts.found).proof
    if proof.genuine is None:
        detail = proof.flaw or "nobody proves signatures here"
        unproved = invalid("signature_unproved", detail, field="signature")
        return unproved if wanted else None
    if not proof.genuine:
        return invalid("signature_refused", proof.flaw, field="signature.value")
    if proof.licensed is False:
        return invalid("licence_refused", proof.licence_flaw, field="pharmacist", status=403)
    return None


def closed(state: State) -> Decision | None:
    """Nothing is decided before an order came or after its review ended."""
    if state.order is None:
        return invalid("unknown_order", "no such order in review", field="order_id", status=404)
    if state.end is not None:
        return invalid("case_closed", f"the review has ended: {state.end}")
    return None


def in_hand(state: State, pharmacist: str, lease: UUID, now: datetime, facts: Facts) -> Lease | str:
    """The live lease, else the field that does not fit it."""
    held = live(state, now)
    if held is None or held.lease != lease or held.tenant_id != actor_of(facts).tenant_id:
        return "lease"
    return held if held.pharmacist == pharmacist else "pharmacist"


def lease_lost(field: str) -> Decision:
    """Whoever acts must have the case in hand."""
    if field == "pharmacist":
        return invalid("lease_lost", "the lease belongs to another pharmacist", field=field)
    return invalid("lease_lost", "take the case first; a lease ends by itself", field=field)


def live(state: State, now: datetime) -> Lease | None:
    """Who has the case in hand at this moment."""
    return state.lease if state.lease is not None and now < state.lease.until else None


def actor_of(facts: Facts) -> Actor:
    """Who sent the command. Raises TypeError for what is no command."""
    if facts.actor is None:
        raise TypeError("a command has an actor")
    return facts.actor
