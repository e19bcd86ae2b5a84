"""`yaoda test`: every check there is, the same on a desk and in CI."""

import subprocess
import sys
import time

from services.local.paths import CLONE

CHECKS: dict[str, list[str]] = {
    "lint": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "types": ["-m", "mypy"],
    "imports": ["-c", "from importlinter.cli import lint_imports_command as run; run()"],
}


def run(arguments: list[str], long: bool) -> int:
    """Run all checks and all tests; with arguments, only pytest with these. The exit code."""
    tests = ["-m", "pytest", *(["--long"] if long else []), *arguments]
    if arguments:
        return _run(tests)
    failed = [name for name, command in CHECKS.items() if not _step(name, command)]
    # A fault of style must not hide what the tests have to say.
    if not _step("tests", tests):
        failed.append("tests")
    print(f"yaoda test: {'failed: ' + ', '.join(failed) if failed else 'all passed'}", flush=True)
    return 1 if failed else 0


def _step(name: str, command: list[str]) -> bool:
    print(f"== {name}", flush=True)
    begun = time.monotonic()
    code = _run(command)
    outcome = "ok" if code == 0 else f"FAILED ({code})"
    print(f"== {name}: {outcome} in {time.monotonic() - begun:.1f} s", flush=True)
    return code == 0


def _run(command: list[str]) -> int:
    return subprocess.run([sys.executable, *command], cwd=CLONE, check=False).returncode
