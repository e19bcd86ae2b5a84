"""Opens what stands sealed in a case: what was written, what was found, what pharmacists said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from schemas.prescription import ClinicalOrder
from schemas.values import Sealed
from services.kit.db import Connection
from services.kit.vault import Vault, VaultError
from services.review.domain.findings import Kept, Told
from services.review.domain.state import Judged, Sheet, State

PartT = TypeVar("PartT", bound=BaseModel)


@dataclass(frozen=True)
class Opened:
    """`written` by corrected prescription (None: as issued), `kept` by prescription, `told` by what
    it was sealed as, `texts` and `judged` by prescription and version that was corrected since; all
    empty once the order's keys are erased."""

    written: Mapping[UUID | None, ClinicalOrder] = field(default_factory=dict)
    kept: Mapping[UUID, Kept] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    erased: bool = False
    texts: Mapping[tuple[UUID, int], ClinicalOrder] = field(default_factory=dict)
    judged: Mapping[tuple[UUID, int], Kept] = field(default_factory=dict)

    def input_of(self, sheet: Sheet, judged: Judged) -> tuple[Kept | None, ClinicalOrder | None]:
        """What stood beside a version when it was judged, and its text; None where not kept."""
        mine, place = sheet.prescription_id, (sheet.prescription_id, judged.version)
        standing = judged.version == sheet.version
        kept = self.kept.get(mine) if standing else self.judged.get(place)
        if judged.correction is None:
            return kept, self.written.get(None)
        return kept, self.written.get(mine) if standing else self.texts.get(place)


async def opened(
    vault: Vault, conn: Connection, state: State, *, whole: bool = True, past: bool = False
) -> Opened:
    """All of a case; without `whole` not what was written, with `past` also the versions that were
    corrected since. Raises VaultError but for erased."""
    sealed = {None: state.clinical} | {s.prescription_id: s.correction for s in state.sheets}
    written = {place: part for place, part in sealed.items() if part is not None and whole}
    kept = {s.prescription_id: s.kept for s in state.sheets if s.kept is not None}
    told = {act.told.ciphertext: act.told for s in state.sheets for act in s.acts if act.told}
    before = {
        (sheet.prescription_id, judged.version): judged
        for sheet in state.sheets
        for judged in sheet.earlier
        if past
    }
    texts = {place: one.correction for place, one in before.items() if one.correction is not None}
    judged = {place: one.kept for place, one in before.items() if one.kept is not None}
    try:
        return Opened(
            await _each(vault, conn, written, ClinicalOrder),
            await _each(vault, conn, kept, Kept),
            await _each(vault, conn, told, Told),
            texts=await _each(vault, conn, texts, ClinicalOrder),
            judged=await _each(vault, conn, judged, Kept),
        )
    except VaultError as error:
        if error.code != "erased":
            raise
        return Opened(erased=True)


async def _each(
    vault: Vault, conn: Connection, parts: Mapping[Any, Sealed[Any]], model: type[PartT]
) -> dict[Any, PartT]:
    sealed: Sequence[Sealed[Any]] = list(parts.values())
    found = await vault.open_many(conn, sealed, model) if sealed else []
    return dict(zip(parts, found, strict=True))
