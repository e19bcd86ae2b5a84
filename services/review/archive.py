"""Keeps every pack and catalogue that ever stood, by the name that verdicts give them, and judges
again with them what was judged then."""

import asyncio
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from schemas.prescription import ClinicalOrder
from services.catalogue import Catalogue, catalogue, content_of, read, version_of
from services.kit.queries import load
from services.review.domain.findings import Kept, hash_of
from services.review.domain.state import Judged, Sheet, State
from services.review.opening import Opened
from services.review.rules import Engine, Pack, Verdict
from services.review.rules.drugs import Drugs
from services.review.rules.reading import case_of

QUERIES = load(__package__)


class Archived(NamedTuple):
    """What was found again of the names that were asked for."""

    packs: Mapping[str, Pack]
    catalogues: Mapping[str, Catalogue]


class Archive:
    """Writes what is not there yet, once; what is there under a name is the same."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._there: set[str] = set()

    async def keep(self, packs: Sequence[Pack]) -> None:
        """These packs, and the catalogue of this process."""
        version = catalogue().version
        names = {version, *(pack.id for pack in packs)}
        if names <= self._there:
            return
        rows = await self._pool.fetch(QUERIES["missing_in_archive"], sorted(names))
        missing = {row["name"] for row in rows}
        for pack in packs:
            if pack.id in missing:
                content = zlib.compress(pack.canonical.encode())
                await self._pool.execute(QUERIES["put_archive"], pack.id, "pack", content)
        if version in missing:
            content = await asyncio.to_thread(_catalogue, version)
            await self._pool.execute(QUERIES["put_archive"], version, "catalogue", content)
        self._there |= names


def _catalogue(version: str) -> bytes:
    files = content_of()
    if version_of(files) != version:
        raise OSError("the catalogue's files are other ones than those that were read")
    return packed(files)


async def opened(pool: asyncpg.Pool, kept: Iterable[Kept]) -> Archived:
    """The packs and catalogues that these verdicts name, as far as they were kept."""
    names = {name for one in kept for name in (one.rule_pack, one.catalogue)}
    packs: dict[str, Pack] = {}
    catalogues: dict[str, Catalogue] = {}
    for row in await pool.fetch(QUERIES["get_archive"], sorted(names)):
        if row["kind"] == "pack":
            packs[row["name"]] = pack_of(row["content"])
        elif row["name"] == catalogue().version:
            catalogues[row["name"]] = catalogue()
        else:
            catalogues[row["name"]] = read(unpacked(row["content"])).catalogue
    return Archived(packs, catalogues)


def pack_of(content: bytes) -> Pack:
    """A pack as it was kept. Raises PackError when today's checks cannot read it any more."""
    return Pack(json.loads(zlib.decompress(content)))


def packed(files: Mapping[str, bytes]) -> bytes:
    """Files by name in one block."""
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in sorted(files.items()):
            bundle.writestr(name, data)
    return block.getvalue()


def unpacked(block: bytes) -> dict[str, bytes]:
    """The files again."""
    with zipfile.ZipFile(io.BytesIO(block)) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def judged_again(kept: Kept, sheet: Sheet, written: ClinicalOrder, engine: Engine) -> Verdict:
    """The verdict on the same input. Raises StopIteration when the prescription is not in it."""
    mine = next(s for s in written.prescriptions if s.prescription_id == sheet.prescription_id)
    case = case_of(
        engine,
        mine,
        written.patient,
        kept.at,
        written.prescriptions,
        kept.supplied,
        kept.hospital,
        kept.proved,
    )
    return engine.judge(case)


def replayed(state: State, opened: Opened, archived: Archived) -> list[dict[str, Any]]:
    """Each version of each prescription: what was said then, what is said now, and whether it is
    the same."""
    return [
        _replayed(sheet, judged, opened, archived)
        for sheet in state.sheets
        for judged in sheet.versions
    ]


def _replayed(sheet: Sheet, judged: Judged, opened: Opened, archived: Archived) -> dict[str, Any]:
    named = {"prescription_id": str(sheet.prescription_id), "version": judged.version}
    answer: dict[str, Any] = {**named, "same": None}
    kept, written = opened.input_of(sheet, judged)
    if kept is None:
        # Judged before inputs were kept.
        return answer
    answer |= {"at": kept.at, "rule_pack": kept.rule_pack, "catalogue": kept.catalogue}
    pack, book = archived.packs.get(kept.rule_pack), archived.catalogues.get(kept.catalogue)
    if pack is None or book is None or written is None:
        return answer
    verdict = judged_again(kept, sheet, written, Engine(pack, Drugs(book, pack.sets)))
    return answer | verdict.as_json() | {"same": hash_of(verdict) == kept.verdict_sha256}
