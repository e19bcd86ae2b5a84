"""Secrets for the containers of one machine: `python -m services.local.container_secrets FOLDER`.

The same as a local instance has, with the authorities that review believes, an empty folder for its
packs, and a database password. Files are readable by every user, since containers see them with the
owner they have outside; the folder itself is closed to others.
"""

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from services.local.secrets import create_once, trust_once

PASSWORD, TRUST, RULES = "postgres_password", "trust", "rules"


def make(folder: Path) -> list[Path]:
    """Write what is missing; existing secrets stay as they are. All files, by name."""
    create_once(folder)
    password = folder / PASSWORD
    if not password.exists():
        password.write_text(secrets.token_urlsafe(32), encoding="ascii")
    trust_once(folder / TRUST)
    (folder / RULES).mkdir(exist_ok=True)
    folder.chmod(0o700)
    for shared in (folder / TRUST, folder / RULES):
        shared.chmod(0o755)
    for file in (folder / TRUST).iterdir():
        file.chmod(0o644)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        path.chmod(0o644)
    return files


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    if len(arguments) != 1:
        print("usage: python -m services.local.container_secrets FOLDER", file=sys.stderr)
        return 2
    for path in make(Path(arguments[0])):
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
