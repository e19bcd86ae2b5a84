"""A child process that cannot outlive its parent."""

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOG_BYTES_MAX = 16 * 1024 * 1024
POLL_SECONDS = 0.05
KILL_SECONDS_MAX = 5
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """One running program in a session of its own, its output appended to a log file.

    The kernel signals it when the thread that started it ends, so start it from a thread that lives
    as long as the child shall.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        uid: int | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
                user=uid,
                group=uid,
                extra_groups=None if uid is None else [],
                # Two system calls and no allocation between fork and exec.
                preexec_fn=_die_with(os.getpid(), death_signal),  # noqa: PLW1509
            )
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet; reaps it when it has."""
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while running; negative for a signal."""
        return self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a child that has ended is left alone."""
        if self.running:
            self.process.send_signal(number)

    async def stop(self, number: signal.Signals, grace_seconds: float) -> None:
        """Ask it to end, kill its whole session after the grace, and wait until it is gone."""
        self.send(number)
        if not await self.wait(grace_seconds):
            self.kill()
            await self.wait(KILL_SECONDS_MAX)

    def kill(self) -> None:
        """SIGKILL to the whole session."""
        if self.running:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                self.process.kill()

    async def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        end = time.monotonic() + seconds
        while self.running:
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of its log, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


async def run_to_end(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    uid: int | None = None,
) -> tuple[int, str]:
    """Run a program to its end, or kill it when cancelled; its exit code and last words."""
    child = Child(argv, log=log, env=env, cwd=cwd, uid=uid)
    try:
        while (code := child.exit_code) is None:
            await asyncio.sleep(POLL_SECONDS)
    finally:
        child.kill()
        await child.wait(KILL_SECONDS_MAX)
    return code, child.log_tail()


def cap_log(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Move a log that grew too big aside, keeping one older part.

    The writer holds the file open for appending, so it is copied and cut rather than renamed.
    """
    try:
        if log.stat().st_size <= bytes_max:
            return
        older = log.with_name(log.name + ".1")
        with open(log, "rb+") as source, open(older, "wb") as target:
            os.sendfile(target.fileno(), source.fileno(), 0, bytes_max)
            source.truncate(0)
    except OSError:
        # A log that cannot be cut is no reason to stop what writes it.
        return


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    def arm() -> None:
        # After the change of user, which clears it.
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm
