"""Every public path has one owner."""

import pytest

from schemas.flow import SERVICES
from services.edge.routes import BODY_BYTES_MAX, IMPORT_BYTES_MAX, find


def check(path: str, service: str, target: str | None = None) -> None:
    """The path goes to that service, as it is or as the target."""
    route = find(path.encode())
    assert route is not None, f"{path} has no route"
    assert (route.service, route.target) == (service, (target or path).encode())


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/prescriptions", "prescription"),
        ("/v1/prescriptions/cancel", "prescription"),
        ("/v1/reviews", "review"),
        ("/v1/reviews/0195", "review"),
        ("/v1/review/precheck", "review"),
        ("/v1/drugs/interactions", "review"),
        ("/v1/diagnoses/I10/options", "review"),
        ("/v1/slips/0195", "review"),
        ("/v1/asks/answer", "claim"),
        ("/v1/claims/0195", "claim"),
        ("/v1/ledger", "claim"),
        ("/v1/pharmacies", "network"),
        ("/v1/pharmacies/stock", "network"),
        ("/v1/cities", "network"),
        ("/v1/cities/310000/board", "ops"),
        ("/v1/offers/accept", "dispatch"),
        ("/v1/deliveries/pick-up", "delivery"),
        ("/v1/deliveries/0195/label", "delivery"),
        ("/v1/orders", "ops"),
        ("/v1/orders/0195", "ops"),
        ("/v1/at-risk", "ops"),
        ("/v1/summary", "ops"),
        ("/v1/events", "ops"),
        ("/v1/stream", "ops"),
        ("/", "ops"),
        ("/page/app.js", "ops"),
    ],
)
def test_a_path_goes_to_its_owner_unchanged(path: str, service: str) -> None:
    check(path, service)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_can_be_named(service: str) -> None:
    check(f"/v1/services/{service}/dlq", service, "/v1/dlq")
    check(f"/v1/services/{service}/openapi.json", service, "/openapi.json")
    check(f"/v1/services/{service}/a/b%2Fc", service, "/v1/a/b%2Fc")


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v2/orders",
        "/v1/ordersx",
        "/v1/Orders",
        "/v1%2Forders",
        "/v1/services",
        "/v1/services/ops",
        "/v1/services/ops/",
        "/v1/services/payer/ledger",
        "/v1/services/edge/livez",
        "/v1/services//dlq",
        "/orders",
        "/metrics/x",
        "/page",
        "//v1/orders",
        "*",
        "",
    ],
)
def test_an_unknown_path_has_no_owner(path: str) -> None:
    assert find(path.encode()) is None


@pytest.mark.parametrize("prefix", ["/v1", "/v1/services/network"])
def test_the_import_alone_is_large_and_streamed(prefix: str) -> None:
    route = find(f"{prefix}/pharmacies/import".encode())
    assert route is not None
    assert (route.streamed, route.body_bytes_max) == (True, IMPORT_BYTES_MAX)
    other = find(f"{prefix}/pharmacies/stock".encode())
    assert other is not None
    assert (other.streamed, other.body_bytes_max) == (False, BODY_BYTES_MAX)


@pytest.mark.parametrize("path", ["/v1/events", "/v1/stream", "/v1/services/ops/stream"])
def test_feeds_may_take_long(path: str) -> None:
    route = find(path.encode())
    assert route is not None
    assert route.long
    assert route.answer_s_max >= 60
