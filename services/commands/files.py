"""Files that a person names on the command line; `-` is the standard input."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def tell(report: Mapping[str, Any], file: Path | None) -> None:
    """A report as JSON, into the file or, without one, on the standard output."""
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text)
