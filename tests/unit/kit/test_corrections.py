"""What a person changes in a dead letter, and what of it is shown."""

import json

import pytest

from services.kit.corrections import HIDDEN, NotChangeable, masked, patched, with_headers

BODY = b'{"order_id": "01950000-0000-7000-8000-000000000001", "lines": [{"quantity": 1}]}'


def test_values_are_set_at_their_paths() -> None:
    fixed = json.loads(patched(BODY, {"lines.0.quantity": 2, "note": "x", "order_id": None}))
    assert fixed == {"lines": [{"quantity": 2}], "note": "x"}


@pytest.mark.parametrize("path", ["lines.1.quantity", "lines.x", "way.off", "lines.0.quantity.y"])
def test_a_place_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(NotChangeable) as refused:
        patched(BODY, {path: 1})
    assert refused.value.field == path


def test_what_is_no_json_cannot_be_changed_in_parts() -> None:
    with pytest.raises(NotChangeable, match="give a whole body"):
        patched(b"{", {"a": 1})


def test_headers_are_replaced_added_and_taken_away() -> None:
    headers = [("ce_id", b"1"), ("ce_type", b"x"), ("ce_old", b"z")]
    changed = with_headers(headers, {"ce_type": "y", "ce_old": None, "ce_new": "n"})
    assert changed == [("ce_id", b"1"), ("ce_type", b"y"), ("ce_new", b"n")]


def test_a_masked_body_keeps_ids_and_shape_alone() -> None:
    body = {
        "patient": {"name": "CANARY Li", "certificate_number": "110101199001011234"},
        "phone": 13800000000,
        "lat": 39.9,
        "order_id": "01950000-0000-7000-8000-000000000001",
        "lines": [{"quantity": 3, "cold": False, "note": None}],
    }
    shown = json.loads(masked(json.dumps(body).encode()))
    assert shown["patient"] == {"name": HIDDEN, "certificate_number": HIDDEN}
    assert (shown["lat"], shown["phone"]) == (HIDDEN, HIDDEN)
    assert shown["order_id"] == body["order_id"]
    assert shown["lines"] == body["lines"]


def test_a_masked_body_that_is_no_json_shows_nothing() -> None:
    assert masked(b"{CANARY") == "(7 bytes that are no JSON, not shown)"
