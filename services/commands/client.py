"""The way from a command to a running instance: its one public port and the sandbox's tokens."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from services.local.errors import LocalError, NotRunning
from services.local.instance import holder, read_state

OPERATOR = "operations"
TIMEOUT_S = 60.0


class Refused(LocalError):
    """The server refused; the sentence says what and which field."""

    exit_code = 2


def connect(home: Path, tenant: str = OPERATOR) -> httpx.Client:
    """A client that speaks for one tenant. Raises NotRunning, or LocalError for its name."""
    port = read_state(home).get("ports", {}).get("edge")
    if port is None or holder(home) is None:
        raise NotRunning(f"Nothing runs in {home}; start it with `yaoda up` or name --home.")
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {_token(home, tenant)}"},
        timeout=TIMEOUT_S,
        # A proxy of this machine has no business with an address of this machine.
        trust_env=False,
    )


@contextmanager
def reaching() -> Iterator[None]:
    """Turns a lost connection into one sentence."""
    try:
        yield
    except httpx.TransportError as error:
        raise NotRunning(f"The instance does not answer: {type(error).__name__}") from error


def body_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer. Raises Refused with the problem in words."""
    if answer.is_success:
        body: dict[str, Any] = answer.json()
        return body
    raise Refused("\n".join(problem_lines(answer)))


def problem_lines(answer: httpx.Response) -> list[str]:
    """A problem document as a person reads it, a line for each field."""
    try:
        problem: Mapping[str, Any] = answer.json()
        errors = [f"  {item['field']}: {item['detail']}" for item in problem.get("errors", [])]
        return [f"{answer.status_code} {problem['code']}: {problem['detail']}", *errors]
    except (KeyError, TypeError, ValueError):
        return [f"{answer.status_code} {answer.reason_phrase}"]


def _token(home: Path, tenant: str) -> str:
    try:
        tokens: dict[str, str] = json.loads((home / "secrets" / "tokens.json").read_text())
    except (OSError, ValueError) as error:
        raise LocalError(f"The tokens of {home} cannot be read: {error}") from error
    if tenant not in tokens:
        raise LocalError(f"There is no tenant {tenant}; there are: {', '.join(sorted(tokens))}")
    return tokens[tenant]
