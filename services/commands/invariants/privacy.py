"""Invariants of who may know what: no person in the clear, nothing across tenants."""

from collections import defaultdict

from schemas.flow import SERVICES
from services.commands.invariants.evidence import Evidence, Fact, Finding, Told, finding

FOREIGN_STATE = """
SELECT s.order_id::text FROM {schema}.state s
JOIN unnest($1::uuid[], $2::uuid[]) AS o(order_id, tenant_id) USING (order_id)
WHERE s.tenant_id <> o.tenant_id
  AND (s.tenant_id <> '00000000-0000-0000-0000-000000000000' OR EXISTS (
      SELECT FROM {schema}.outbox e WHERE e.key = s.order_id
      AND e.type NOT LIKE '%.MessageParked' AND e.type NOT LIKE '%.MessageRedriven'))
"""
# What cannot be read names no tenant; that it was parked is told by nobody's name.
NOBODY = "00000000-0000-0000-0000-000000000000"
_OF_NOBODY = (".MessageParked", ".MessageRedriven")
_COURIER_ALONE = frozenset(
    {
        "delivery.CourierAssigned",
        "delivery.ParcelPickedUp",
        "delivery.ParcelDelivered",
        "delivery.ParcelReturned",
    }
)
_ROAD = _COURIER_ALONE | {
    "delivery.PharmacyReviewed",
    "delivery.ParcelSealed",
    "delivery.ParcelReleased",
    "delivery.AttemptFailed",
    "claim.ClaimDeclined",
    "claim.OrderClosed",
}
_REVIEW = frozenset(
    {
        "review.ReviewEscalated",
        "review.ReviewApproved",
        "review.ReviewRejected",
        "review.ReviewCancelled",
        "prescription.PrescriptionCorrected",
    }
)


async def nobody_in_the_clear(evidence: Evidence) -> Finding:
    """No seeded personal string stands on a topic (hospitals' own intake apart) or in a log."""
    return finding(
        evidence.topics.messages + evidence.log_lines, [*evidence.topics.canaries, *evidence.logs]
    )


async def nothing_crosses_a_tenant(evidence: Evidence) -> Finding:
    """Facts, rows and feeds of an order belong to its hospital and to whom it was offered."""
    parts = _Parts(evidence)
    wrong = [entry.subject for entry in evidence.topics.told if not parts.may_see(entry)]
    examined = len(evidence.topics.told)
    for order_id, facts in evidence.topics.orders.items():
        examined += len(facts)
        hospital = parts.hospital.get(order_id)
        wrong += [order_id for fact in facts if hospital and not _belongs(fact, hospital)]
    orders = list(parts.hospital)
    tenants = [parts.hospital[order_id] for order_id in orders]
    for schema in SERVICES:
        rows = await evidence.conn.fetch(FOREIGN_STATE.format(schema=schema), orders, tenants)
        wrong += [f"{schema}: {row[0]}" for row in rows]
    return finding(examined, wrong)


def _belongs(fact: Fact, hospital: str) -> bool:
    laid_aside = fact.tenant_id == NOBODY and fact.type.endswith(_OF_NOBODY)
    return laid_aside or fact.tenant_id == hospital


class _Parts:
    """Which tenant has which part in which order, as the facts themselves say."""

    def __init__(self, evidence: Evidence) -> None:
        topics = evidence.topics
        self.tenants = evidence.tenants
        self.hospital = {o: f.data["hospital_id"] for o, f in evidence.issued.items()}
        self.chain: dict[tuple[str, int], str] = {}
        self.chains: dict[str, set[str]] = defaultdict(set)
        for fact in topics.of_type("dispatch.PharmacyAssigned"):
            self.chain[fact.order_id, fact.attempt] = fact.data["pharmacy_tenant"]
            self.chains[fact.order_id].add(fact.data["pharmacy_tenant"])
        self.fleet = {
            (fact.order_id, fact.attempt): fact.data["courier_tenant"]
            for fact in topics.of_type("delivery.CourierAssigned")
        }

    def may_see(self, entry: Told) -> bool:
        """Whether an entry stands on a topic whose tenant it concerns."""
        if entry.tenant_id != entry.topic_tenant:
            return False
        match self.tenants.get(entry.tenant_id):
            case "hospital":
                own = self.hospital.get(entry.subject) == entry.tenant_id
                return own and not entry.entry_type.startswith("dispatch.Offer")
            case "pharmacy_chain":
                return self._chain_may_see(entry)
            case "courier":
                return self._fleet_may_see(entry)
            case "reviewer":
                return entry.entry_type in _REVIEW
            case kind:
                return kind == "operator"

    def _chain_may_see(self, entry: Told) -> bool:
        if entry.named_tenant:
            return entry.named_tenant == entry.tenant_id
        if entry.attempt:
            return self.chain.get((entry.subject, entry.attempt)) == entry.tenant_id
        answered = entry.entry_type.endswith(".CancelAnswered")
        return answered and entry.tenant_id in self.chains[entry.subject]

    def _fleet_may_see(self, entry: Told) -> bool:
        if entry.entry_type in _COURIER_ALONE:
            return self.fleet.get((entry.subject, entry.attempt)) == entry.tenant_id
        return entry.entry_type in _ROAD
