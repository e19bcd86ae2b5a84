"""Files that a person names on the command line; `-` is the standard input."""

import sys
from pathlib import Path

from services.local.errors import LocalError


class Unreadable(LocalError):
    """What was named cannot be used; the sentence says where and why."""

    exit_code = 4


def text_of(name: str, errors: str = "strict") -> str:
    """Its UTF-8 text. Raises Unreadable, for bytes that are no text as `errors` says."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig", errors)
    except OSError as error:
        raise Unreadable(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{name} is not UTF-8 at byte {error.start}.") from error
