"""Where things lie in a clone."""

import os
from pathlib import Path

import services

CLONE = Path(services.__file__).resolve().parent.parent


def cache_dir() -> Path:
    """Folder for downloads, shared by all instances of this clone (YAODA_CACHE overrides it)."""
    folder = Path(os.environ.get("YAODA_CACHE") or CLONE / ".yaoda" / "cache")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def default_home() -> Path:
    """The instance folder that the command uses when none is named."""
    return CLONE / ".yaoda" / "demo"


def latest_home(clone: Path = CLONE) -> Path:
    """The instance folder of this clone that was used last, so that a replay can be looked at."""
    used = sorted((clone / ".yaoda").glob("*/instance.json"), key=lambda file: file.stat().st_mtime)
    return used[-1].parent if used else default_home()
