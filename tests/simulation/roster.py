"""The seven services by name."""

from services.claim.app import SERVICE as CLAIM
from services.delivery.app import SERVICE as DELIVERY
from services.dispatch.app import SERVICE as DISPATCH
from services.kit.service import Service
from services.network.app import SERVICE as NETWORK
from services.ops.app import SERVICE as OPS
from services.prescription.app import SERVICE as PRESCRIPTION
from services.review.app import SERVICE as REVIEW

SERVICES: dict[str, Service] = {
    service.name: service
    for service in (PRESCRIPTION, REVIEW, CLAIM, NETWORK, DISPATCH, DELIVERY, OPS)
}
