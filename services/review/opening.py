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
from services.review.domain.state import State

PartT = TypeVar("PartT", bound=BaseModel)


@dataclass(frozen=True)
class Opened:
    """`written` by corrected prescription (None: as issued), `kept` by prescription, `told` by what
    it was sealed as; all empty once the order's keys are erased."""

    written: Mapping[UUID | None, ClinicalOrder] = field(default_factory=dict)
    kept: Mapping[UUID, Kept] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    erased: bool = False


async def opened(vault: Vault, conn: Connection, state: State, *, whole: bool = True) -> Opened:
    """All of a case; without `whole` not what was written. Raises VaultError but for erased."""
    sealed = {None: state.clinical} | {s.prescription_id: s.correction for s in state.sheets}
    written = {place: part for place, part in sealed.items() if part is not None and whole}
    kept = {s.prescription_id: s.kept for s in state.sheets if s.kept is not None}
    told = {act.told.ciphertext: act.told for s in state.sheets for act in s.acts if act.told}
    try:
        return Opened(
            await _each(vault, conn, written, ClinicalOrder),
            await _each(vault, conn, kept, Kept),
            await _each(vault, conn, told, Told),
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
