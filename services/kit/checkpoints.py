"""Signed checkpoints of the audit chains, kept apart from the database that holds the chains.

A chain that is rewritten from some row on, hashes and head included, is whole in itself; it no
longer fits the checkpoints that were signed before.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# (service, partition) → (rows so far, hash of the last one).
Heads = Mapping[tuple[str, int], tuple[int, bytes]]

START = "0" * 64


@dataclass(frozen=True)
class Checkpoint:
    """Where every chain stood at some moment."""

    at: datetime
    heads: Heads


class Forged(Exception):
    """A line was not written by the holder of the key, or one before it is gone."""

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(f"line {number}: {detail}")
        self.number = number
        self.detail = detail


def load_key(path: Path) -> Ed25519PrivateKey:
    """The key of an instance; made where there is none yet. Raises OSError or ValueError."""
    if not path.exists():
        text = os.urandom(32).hex()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))


def sealed_line(key: Ed25519PrivateKey, checkpoint: Checkpoint, lines: Sequence[str]) -> str:
    """The checkpoint as the next line of the file."""
    heads = {
        f"{service}/{partition}": [seq, digest.hex()]
        for (service, partition), (seq, digest) in sorted(checkpoint.heads.items())
    }
    said = {"at": checkpoint.at.isoformat(), "heads": heads, "previous": _digest(lines)}
    return json.dumps({**said, "signature": key.sign(_canonical(said)).hex()})


def read_lines(key: Ed25519PrivateKey, lines: Sequence[str]) -> list[Checkpoint]:
    """All of a file's checkpoints. Raises Forged, naming the first line that is not sound."""
    found = []
    public = key.public_key()
    for number, line in enumerate(lines, 1):
        try:
            said = json.loads(line)
            signature = bytes.fromhex(said.pop("signature"))
            public.verify(signature, _canonical(said))
            heads = {
                _place(name): (int(seq), bytes.fromhex(digest))
                for name, (seq, digest) in said["heads"].items()
            }
            checkpoint = Checkpoint(datetime.fromisoformat(said["at"]), heads)
        except InvalidSignature:
            raise Forged(number, "its signature is not that of this instance's key") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise Forged(number, "it is no checkpoint") from None
        if said["previous"] != _digest(lines[: number - 1]):
            raise Forged(number, "a line before it was taken away or put in")
        found.append(checkpoint)
    return found


def contradictions(
    checkpoint: Checkpoint, rows: Mapping[tuple[str, int], bytes | None]
) -> list[str]:
    """Where the chains are not what was signed; `rows` are the hashes at the signed places."""
    wrong = []
    for place, (seq, digest) in sorted(checkpoint.heads.items()):
        service, partition = place
        if seq and place in rows and rows[place] != digest:
            how = "is gone" if rows[place] is None else "has another hash"
            at = checkpoint.at.isoformat(timespec="seconds")
            wrong.append(f"{service}/{partition} row {seq}, signed at {at}, {how}")
    return wrong


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256(lines[-1].encode()).hexdigest() if lines else START


def _canonical(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def _place(name: str) -> tuple[str, int]:
    service, _, partition = name.partition("/")
    return service, int(partition)
