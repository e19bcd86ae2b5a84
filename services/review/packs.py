"""The packs of an instance: read anew when their folder changes, as a whole or not at all.
The authorities it trusts are watched in the same way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg

from services.kit import telemetry
from services.kit.collector import keep_also
from services.kit.config import Settings
from services.review import trust
from services.review.archive import Archive
from services.review.rules import engine_of
from services.review.rules.pack import PackError
from services.review.rules.shelf import (
    Packs,
    installed,
    read,
    stand,
    stand_in_the_dark,
    standing,
)
from services.review.trust import Seen, TrustWatch, seen_of

FOLDER, DARK = "rules", "dark"
LOOK_EVERY_S = 2.0
log = telemetry.logger(__name__)


class Watch:
    """A folder with `packs` and `library` of its own, laid over what is installed."""

    changed, wrong = "packs_changed", "packs_refused"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: Seen = ()
        self.refused = ""

    def look(self) -> bool:
        """True when other packs stand now. Wrong packs change nothing; `refused` says why."""
        seen = self._files()
        if seen == self._seen:
            return False
        self._seen = seen
        here: Any = files("services.review.rules")
        folder: Any = self._folder
        try:
            packs = read(folder, here) if seen else None
        except (PackError, OSError, UnicodeDecodeError) as error:
            self.refused = str(error)
            return False
        # The first case after the change must not wait for indexes.
        for pack in packs.packs if packs else ():
            _ = engine_of(pack).drugs.words
        keep_also()
        self.refused = ""
        self._stand(packs)
        return True

    @property
    def version(self) -> str:
        """What stands, for the log."""
        return ", ".join(pack.id for pack in standing().packs)

    def _stand(self, packs: Packs | None) -> None:
        stand(packs or installed())

    def _files(self) -> Seen:
        return seen_of(self._folder.glob("*/*.toml"))


class DarkWatch(Watch):
    """A folder of packs that are asked beside those that stand, and decide nothing."""

    changed, wrong = "dark_packs_changed", "dark_packs_refused"

    @property
    def version(self) -> str:
        """What is asked beside, for the log."""
        return ", ".join(pack.id for pack in self._packs)

    def _stand(self, packs: Packs | None) -> None:
        self._packs = packs.packs if packs else ()
        stand_in_the_dark(packs)


@asynccontextmanager
async def watched(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Watch]:
    """Looks every few seconds, in a thread, so that the stream goes on meanwhile."""
    watch = Watch(settings.home / FOLDER)
    dark = DarkWatch(settings.home / FOLDER / DARK)
    trusted = TrustWatch(settings.home / trust.FOLDER)
    watches: tuple[Watch | TrustWatch, ...] = watch, dark, trusted
    for each in watches:
        _tell(each.look(), each, "")
    kept = Archive(pool)
    await kept.keep(standing().packs)
    looking = asyncio.create_task(_keep_looking(watches, kept))
    try:
        yield watch
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _keep_looking(watches: Sequence[Watch | TrustWatch], kept: Archive) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for watch in watches:
            await _look(watch)
        try:
            await kept.keep(standing().packs)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            # The next look keeps it; nothing else waits for that.
            log.error("packs_not_archived", error=type(error).__name__)


async def _look(watch: Watch | TrustWatch) -> None:
    before = watch.refused
    _tell(await asyncio.to_thread(watch.look), watch, before)


def _tell(changed: bool, watch: Watch | TrustWatch, before: str) -> None:
    if changed:
        log.info(watch.changed, version=watch.version)
    elif watch.refused and watch.refused != before:
        log.error(watch.wrong, error=watch.refused)
