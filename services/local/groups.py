"""Takes stopped members out of a consumer group at once, instead of after their session.

The request (LeaveGroup, version 3) is spoken by hand: no client for Python offers it.
"""

import asyncio
import struct
from collections.abc import Sequence

LEAVE_GROUP, VERSION = 13, 3
_UNKNOWN_MEMBER = 25
_CLIENT = "yaoda-local"
_TIMEOUT_S = 10.0


class GroupError(Exception):
    """The broker refused; the text has its code."""


async def remove_members(bootstrap: str, group: str, instances: Sequence[str]) -> None:
    """End the membership of these static members; unknown ones are fine. Raises GroupError.

    For a single broker, which coordinates every group. Raises OSError when it is away.
    """
    host, _, port = bootstrap.rpartition(":")
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(_request(group, instances))
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            _check(await reader.readexactly(size))
        finally:
            writer.close()


def _request(group: str, instances: Sequence[str]) -> bytes:
    members = b"".join(_text("") + _text(name) for name in instances)
    body = struct.pack(">hhi", LEAVE_GROUP, VERSION, 1) + _text(_CLIENT)
    body += _text(group) + struct.pack(">i", len(instances)) + members
    return struct.pack(">i", len(body)) + body


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def _check(answer: bytes) -> None:
    """Correlation id, throttle time, error code, then members with a code each."""
    _, _, code, count = struct.unpack_from(">iihi", answer)
    place = struct.calcsize(">iihi")
    codes = [code]
    for _ in range(max(count, 0)):
        for _name in ("member_id", "group_instance_id"):
            (length,) = struct.unpack_from(">h", answer, place)
            place += 2 + max(length, 0)
        codes += struct.unpack_from(">h", answer, place)
        place += 2
    bad = [one for one in codes if one not in (0, _UNKNOWN_MEMBER)]
    if bad:
        raise GroupError(f"the broker answered {bad}")
