"""Seals the new token of a patient whose voucher was refused, beside the old one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from schemas.claim import AnswerAsk
from schemas.values import Sealed, Voucher
from services.claim import years
from services.claim.book import book
from services.claim.domain import State
from services.claim.domain.checking import Known
from services.claim.ports import UNREADABLE
from services.kit.service import LookupContext
from services.kit.vault import VaultError


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """All that claim looks up for a message."""
    found = dict(await years.lookup(context))
    for item in context.messages:
        match item.message:
            case AnswerAsk(voucher_token=str() as token):
                known = found.get(item.id) or Known(book())
                sealed = await _renewed(context, context.states[item.key], token)
                found[item.id] = replace(known, voucher=sealed)
    return found


async def _renewed(context: LookupContext, state: State, token: str) -> Sealed[Voucher] | None:
    """The same person with another token; None when the person is erased."""
    old = state.case.voucher if state.case else None
    if old is None:
        return None
    try:
        [voucher] = await context.vault.open_many(context.conn, [old], Voucher)
        [seal] = await context.vault.seals(context.conn, [old])
    except VaultError as error:
        if error.code in UNREADABLE:
            return None
        raise
    return seal(voucher.model_copy(update={"token": token}))
