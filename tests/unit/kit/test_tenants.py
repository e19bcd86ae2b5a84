"""Who may call."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.kit.tenants import Tenants, TenantsError
from services.local.secrets import create_once


def check(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    row = {
        "tenant_id": "01950000-0000-7000-8000-000000000001",
        "name": "a",
        "kind": "courier",
        "token_sha256": "a" * 64,
    }
    path = tmp_path / "tenants.json"
    path.write_text(json.dumps({"tenants": [row, {**row, "name": "b", **change}]}))
    with pytest.raises(TenantsError, match=complaint):
        Tenants.load(path)


def test_the_local_set_is_read_and_tokens_open_it(tmp_path: Path) -> None:
    create_once(tmp_path)
    tenants = Tenants.load(tmp_path / "tenants.json")
    tokens = json.loads((tmp_path / "tokens.json").read_text())
    for name, token in tokens.items():
        actor = tenants.by_token(token)
        assert actor is not None
        assert actor.name == name
        assert tenants.by_id(actor.tenant_id) == actor
    assert [actor.name for actor in tenants.of_kind("hospital")] == ["hospital-a", "hospital-b"]
    assert len(tenants.all()) == 6


@pytest.mark.parametrize("token", ["", "wrong", "药", "a" * 5000])
def test_a_wrong_token_is_nobody(tmp_path: Path, token: str) -> None:
    create_once(tmp_path)
    assert Tenants.load(tmp_path / "tenants.json").by_token(token) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, "same tenant_id"),
        ({"tenant_id": "01950000-0000-7000-8000-000000000002"}, "same token_sha256"),
        ({"kind": "king"}, r"tenants\.1\.kind"),
        ({"token_sha256": "clear text"}, r"tenants\.1\.token_sha256"),
        ({"token": "x"}, r"tenants\.1\.token"),
    ],
)
def test_a_bad_file_names_the_field(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    check(tmp_path, change, complaint)


def test_a_bad_file_does_not_quote_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "tenants.json"
    path.write_text('{"tenants": [{"tenant_id": "s3cret-value"}]}')
    with pytest.raises(TenantsError) as caught:
        Tenants.load(path)
    assert "s3cret-value" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TenantsError, match=r"tenants\.json"):
        Tenants.load(tmp_path / "tenants.json")
