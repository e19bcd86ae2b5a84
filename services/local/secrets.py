"""The secrets of a local instance: a master key, and synthetic tenants with their tokens; and the
synthetic authority whose signatures it believes."""

import hashlib
import json
import os
import secrets
from importlib.resources import files
from pathlib import Path

from services.kit.ids import new_id

TENANTS: dict[str, str] = {
    "hospital-a": "hospital",
    "hospital-b": "hospital",
    "reviewers": "reviewer",
    "chain-a": "pharmacy_chain",
    "fleet-a": "courier",
    "operations": "operator",
}


def create_once(folder: Path) -> None:
    """Write master.key, tenants.json and tokens.json (mode 0600) where they do not exist yet."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = folder / "master.key"
    if not key.exists():
        _write(key, secrets.token_hex(32))
    tenants, tokens = folder / "tenants.json", folder / "tokens.json"
    # Tokens last: they are the sign that both files belong together.
    if not tokens.exists():
        clear = {name: secrets.token_urlsafe(24) for name in TENANTS}
        rows = [_tenant(name, kind, clear[name]) for name, kind in TENANTS.items()]
        _write(tenants, json.dumps({"tenants": rows}, indent=2))
        _write(tokens, json.dumps(clear, indent=2))


def trust_once(folder: Path) -> None:
    """Believe the sandbox's test authority, where the folder does not say otherwise yet."""
    if folder.exists():
        return
    scratch = folder.with_name(folder.name + ".new")
    scratch.mkdir(exist_ok=True)
    for file in files(__package__).joinpath("synthetic_trust").iterdir():
        (scratch / file.name).write_bytes(file.read_bytes())
    scratch.rename(folder)


def _tenant(name: str, kind: str, token: str) -> dict[str, str]:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return {"tenant_id": str(new_id()), "name": name, "kind": kind, "token_sha256": digest}


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(path.name + ".new")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    scratch.rename(path)
