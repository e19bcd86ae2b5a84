"""Signing profiles: each proves what it claims, and what is not offered says so."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.claim.nhsa.signing import NotOffered, from_file, profile

KEY = base64.b64encode(bytes(range(32))).decode()


def pair() -> dict[str, dict[str, str]]:
    """Two sides with keys of their own."""
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n in (1, 2)]
    own = [base64.b64encode(key.private_bytes_raw()).decode() for key in keys]
    public = [base64.b64encode(key.public_key().public_bytes_raw()).decode() for key in keys]
    return {
        "ours": {"own": own[0], "theirs": public[1]},
        "theirs": {"own": own[1], "theirs": public[0]},
    }


@pytest.mark.parametrize("signtype", ["SM3", "HMAC-SHA256", "ED25519"])
def test_what_one_side_signs_the_other_finds_genuine(signtype: str) -> None:
    keys = pair() if signtype == "ED25519" else {"ours": {"key": KEY}, "theirs": {"key": KEY}}
    ours, theirs = profile(signtype, keys["ours"]), profile(signtype, keys["theirs"])
    cainfo = ours.sign(b"content")
    assert theirs.genuine(b"content", cainfo)
    assert not theirs.genuine(b"Content", cainfo)
    assert not theirs.genuine(b"content", "")
    assert not theirs.genuine(b"content", "no base64!")


def test_a_digest_is_the_published_one() -> None:
    found = base64.b64decode(profile("SM3", {}).sign(b"abc")).hex()
    assert found == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


@pytest.mark.parametrize("signtype", ["SM2", "SM4", "SM2WithSM3"])
def test_what_is_not_offered_says_so(signtype: str) -> None:
    with pytest.raises(NotOffered, match=signtype) as refused:
        profile(signtype, {})
    assert refused.value.code == "not_offered_yet"


@pytest.mark.parametrize("found", [{}, {"signtype": 3}, {"signtype": "HMAC-SHA256"}])
def test_a_file_of_keys_that_lacks_one_names_it(tmp_path: Path, found: dict[str, Any]) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(found), "utf-8")
    with pytest.raises(ValueError, match=r"signtype|key"):
        from_file(path)
    path.write_text(json.dumps({"signtype": "HMAC-SHA256", "key": KEY}), "utf-8")
    assert from_file(path).genuine(b"a", from_file(path).sign(b"a"))
    path.write_text(json.dumps({"signtype": "HMAC-SHA256", "key": KEY[:8]}), "utf-8")
    with pytest.raises(ValueError, match="key"):
        from_file(path)


def test_without_a_signature_everything_is_as_it_was() -> None:
    assert profile("", {}).sign(b"a") == ""
    assert profile("", {}).genuine(b"a", "")
