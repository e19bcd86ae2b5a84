"""A Redis of its own for the geo benchmark, spoken to over a socket as plainly as can be."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

START_S_MAX = 10.0


class Redis:
    """A server without disk; raises TimeoutError when it does not come up."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="yaoda-redis-"))
        path = self._folder / "socket"
        program = shutil.which("redis-server") or "redis-server"
        self._server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", str(path), "--save", ""],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        self._socket = self._connected(path)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()
        self._server.terminate()
        self._server.wait(START_S_MAX)
        shutil.rmtree(self._folder, ignore_errors=True)

    def cpu_s(self) -> float:
        """Processor seconds that the server has taken so far."""
        times = psutil.Process(self._server.pid).cpu_times()
        return float(times.user + times.system)

    def add(self, city: int, points: Sequence[tuple[float, float]]) -> None:
        """Pharmacies of one city by their numbers."""
        words: list[object] = ["GEOADD", f"city{city}"]
        for number, (lon, lat) in enumerate(points):
            words += [lon, lat, number]
        self._socket.sendall(_packed(words))
        self._answer()

    def forget(self, city: int) -> None:
        """Nobody is there any more."""
        self._socket.sendall(_packed(["DEL", f"city{city}"]))
        self._answer()

    def near(
        self,
        city: int,
        points: Sequence[tuple[float, float]],
        km: float,
        most: int | None = None,
    ) -> list[list[int]]:
        """For each point the numbers within the radius, or the nearest so many; one pipeline."""
        nearest = [] if most is None else ["ASC", "COUNT", most]
        key = f"city{city}"
        asked = b"".join(
            _packed(["GEOSEARCH", key, "FROMLONLAT", lon, lat, "BYRADIUS", km, "km", *nearest])
            for lon, lat in points
        )
        self._socket.sendall(asked)
        return [[int(item) for item in self._answer()] for _ in points]

    def _connected(self, path: Path) -> socket.socket:
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            one = socket.socket(socket.AF_UNIX)
            try:
                one.connect(str(path))
            except OSError:
                one.close()
                time.sleep(0.05)
            else:
                return one
        self._server.terminate()
        raise TimeoutError("redis-server did not come up")

    def _answer(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2]
        if kind == b"-":
            raise ValueError(rest.decode())
        return rest


def _packed(words: Sequence[object]) -> bytes:
    parts = [str(word).encode() for word in words]
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
