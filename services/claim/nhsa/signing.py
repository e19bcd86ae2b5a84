"""How messages are signed: one profile a province, by its `signtype`.

A profile signs what is sent and checks what comes back. SM3 alone proves that nothing was altered
on the way, not who wrote it; the keyed ones prove both. SM2 and SM4 wait for a well-kept library.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SM3, Hash

KEY_BYTES_MIN = 32


class NotOffered(ValueError):
    """A way of signing that this product does not have; `code` is for the operator."""

    code = "not_offered_yet"


class Profile(Protocol):
    """One way of signing."""

    @property
    def signtype(self) -> str:
        """As it stands in the envelope."""
        ...

    def sign(self, content: bytes) -> str:
        """What stands in `cainfo`."""
        ...

    def genuine(self, content: bytes, cainfo: str) -> bool:
        """Whether `cainfo` is of this content."""
        ...


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Nothing is signed, nothing is checked."""

    signtype: str = ""

    def sign(self, content: bytes) -> str:
        return ""

    def genuine(self, content: bytes, cainfo: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Sm3Digest:
    """The digest alone."""

    signtype: str = "SM3"

    def sign(self, content: bytes) -> str:
        digest = Hash(SM3())
        digest.update(content)
        return base64.b64encode(digest.finalize()).decode()

    def genuine(self, content: bytes, cainfo: str) -> bool:
        return hmac.compare_digest(self.sign(content), cainfo)


@dataclass(frozen=True, slots=True)
class HmacSha256:
    """A key that both sides have."""

    key: bytes
    signtype: str = "HMAC-SHA256"

    def sign(self, content: bytes) -> str:
        return base64.b64encode(hmac.digest(self.key, content, hashlib.sha256)).decode()

    def genuine(self, content: bytes, cainfo: str) -> bool:
        return hmac.compare_digest(self.sign(content), cainfo)


@dataclass(frozen=True, slots=True)
class Ed25519:
    """Each side signs with a key of its own; both keys are 32 raw bytes."""

    own: bytes
    theirs: bytes
    signtype: str = "ED25519"

    def sign(self, content: bytes) -> str:
        key = Ed25519PrivateKey.from_private_bytes(self.own)
        return base64.b64encode(key.sign(content)).decode()

    def genuine(self, content: bytes, cainfo: str) -> bool:
        try:
            signature = base64.b64decode(cainfo, validate=True)
            Ed25519PublicKey.from_public_bytes(self.theirs).verify(signature, content)
        except (binascii.Error, InvalidSignature):
            return False
        return True


UNSIGNED, SM3_DIGEST = Unsigned(), Sm3Digest()


def profile(signtype: str, keys: Mapping[str, str]) -> Profile:
    """The profile of that name; keys are base64. Raises NotOffered or ValueError with the key."""
    match signtype:
        case "":
            return UNSIGNED
        case "SM3":
            return SM3_DIGEST
        case "HMAC-SHA256":
            return HmacSha256(_key(keys, "key"))
        case "ED25519":
            return Ed25519(_key(keys, "own"), _key(keys, "theirs"))
        case _:
            raise NotOffered(f"signing by {signtype} is not offered yet")


def from_file(path: Path) -> Profile:
    """A profile from a JSON file with `signtype` and its keys. Raises as `profile` does."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("signtype"), str):
        raise ValueError(f"{path.name}: signtype is missing")
    return profile(found["signtype"], {name: str(value) for name, value in found.items()})


def _key(keys: Mapping[str, str], name: str) -> bytes:
    try:
        key = base64.b64decode(keys[name], validate=True)
    except (KeyError, binascii.Error):
        raise ValueError(f"{name}: no key in base64") from None
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"{name}: shorter than {KEY_BYTES_MIN} bytes")
    return key
