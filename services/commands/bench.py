"""`yaoda bench NAME`: runs one benchmark of the clone's bench folder, with its control."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence

UNKNOWN = 3
FOLDER = "bench"


def main(argv: Sequence[str]) -> int:
    """The benchmark's exit code; 3 when there is none of that name. Raises LocalError."""
    names = offered()
    if argv and argv[0] in names:
        found: int | None = importlib.import_module(f"{FOLDER}.{argv[0]}").main(list(argv[1:]))
        return found or 0
    wanted = argv[0] if argv else ""
    if wanted in ("-h", "--help") and names:
        print(f"usage: yaoda bench NAME [--help] ...\n\nbenchmarks: {', '.join(names)}")
        return 0
    shown = ", ".join(names) or "none here; they come with a clone, not with the package"
    what = f"benchmark `{wanted}` is not offered yet" if wanted else "name a benchmark"
    print(f"yaoda: {what}; there are: {shown}", file=sys.stderr)
    return UNKNOWN


def offered() -> list[str]:
    """The benchmarks of this clone; none where the package alone is installed."""
    if importlib.util.find_spec(FOLDER) is None:
        return []
    folder = importlib.import_module(FOLDER)
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
