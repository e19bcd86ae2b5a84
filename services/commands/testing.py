"""`yaoda test`: every check there is, the same on a desk and in CI."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import psutil

from services.local.paths import CLONE

# What needs no core for itself runs beside what waits for brokers most of the time.
BESIDE, ALONE = "not live or alongside", "live and not alongside"
TYPES = ["-m", "mypy"]
CHECKS: dict[str, list[str]] = {
    "lint": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "imports": ["-c", "from importlinter.cli import lint_imports_command as run; run()"],
}


def run(arguments: list[str], long: bool) -> int:
    """Run all checks and all tests; with arguments, only pytest with these. The exit code."""
    tests = ["-m", "pytest", *(["--long"] if long else [])]
    if arguments:
        return _run([*tests, *arguments])
    # A fault of style must not hide what the tests have to say.
    beside = [*tests, "-p", "no:cacheprovider", "-m", BESIDE]
    with _beside(TYPES) as types, _beside(beside) as others:
        steps: dict[str, list[str] | Callable[[], int]] = {
            **CHECKS,
            "live tests": [*tests, "-m", ALONE],
            "types": types,
            "all other tests": others,
        }
        failed = [name for name, work in steps.items() if not _step(name, work)]
    print(f"yaoda test: {'failed: ' + ', '.join(failed) if failed else 'all passed'}", flush=True)
    return 1 if failed else 0


@contextmanager
def _beside(command: list[str]) -> Iterator[Callable[[], int]]:
    """Run it in the background; called, it shows all its output and gives its exit code."""
    with TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=CLONE, stdout=output, stderr=subprocess.STDOUT
        )
        psutil.Process(process.pid).nice(10)

        def ended() -> int:
            code = process.wait()
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
            return code

        try:
            yield ended
        finally:
            process.kill()
            process.wait()


def _step(name: str, work: list[str] | Callable[[], int]) -> bool:
    print(f"== {name}", flush=True)
    begun = time.monotonic()
    code = work() if callable(work) else _run(work)
    outcome = "ok" if code == 0 else f"FAILED ({code})"
    print(f"== {name}: {outcome} in {time.monotonic() - begun:.1f} s", flush=True)
    return code == 0


def _run(command: list[str]) -> int:
    return subprocess.run([sys.executable, *command], cwd=CLONE, check=False).returncode
