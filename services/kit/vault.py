"""Seals personal data: AES-256-GCM with one data key an order and purpose.

The database holds the data keys, wrapped by a master key it never sees, and decides by the role
that logged in who may open which purpose. Deleting an order's keys erases the person everywhere:
on topics, in states and in backups of them.
"""

import base64
import binascii
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

import asyncpg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ValidationError

from schemas.values import Purpose, Sealed
from services.kit import queries, telemetry
from services.kit.db import Connection
from services.kit.ids import new_id

SQL = queries.load(__package__, "vault.sql")
KEY_BYTES = 32
NONCE_BYTES = 12
CACHED_KEYS_MAX = 2_000
CACHED_S_MAX = 60.0

Code = Literal["unknown_key", "erased", "not_allowed", "tampered", "wrong_content", "master_key"]
ModelT = TypeVar("ModelT", bound=BaseModel)


class VaultError(Exception):
    """Sealing or opening failed; `code` says why, the text never quotes data."""

    log_safe = True

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class _Key(NamedTuple):
    key_id: UUID
    order_id: UUID
    purpose: str
    material: bytes


class Vault:
    """Seals and opens for one process. Opened keys are kept for a minute at most."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != KEY_BYTES:
            raise VaultError("master_key", f"must have {KEY_BYTES} bytes, not {len(master_key)}")
        self._master = AESGCM(master_key)
        # A key of its own, so that a blinded text says nothing about any wrapped key.
        self._salt = hmac.digest(master_key, b"yaoda blind 1", "sha256")
        self._opened: OrderedDict[UUID, tuple[float, _Key]] = OrderedDict()

    @classmethod
    def load(cls, path: Path) -> "Vault":
        """With the master key of a file, 64 hex digits. Raises VaultError without quoting it."""
        try:
            return cls(bytes.fromhex(path.read_text(encoding="ascii").strip()))
        except OSError as error:
            raise VaultError("master_key", f"{path}: {error.strerror}") from None
        except ValueError:
            raise VaultError("master_key", f"{path}: not {KEY_BYTES * 2} hex digits") from None

    async def seal(
        self, conn: Connection, order_id: UUID, purpose: Purpose, value: BaseModel
    ) -> Sealed[Any]:
        """Encrypt one value, under the order's key for that purpose."""
        return (await self.seal_many(conn, order_id, {purpose: value}))[purpose]

    async def seal_many(
        self, conn: Connection, order_id: UUID, values: Mapping[Purpose, BaseModel]
    ) -> dict[Purpose, Sealed[Any]]:
        """Several purposes of one order in one round trip."""
        wanted = {(order_id, purpose): value for purpose, value in values.items()}
        sealed = await self.seal_batch(conn, wanted)
        return {purpose: sealed[order_id, purpose] for purpose in values}

    async def seal_batch(
        self, conn: Connection, values: Mapping[tuple[UUID, Purpose], BaseModel]
    ) -> dict[tuple[UUID, Purpose], Sealed[Any]]:
        """Values of many orders in one round trip. Raises VaultError erased or not_allowed."""
        keys = await self._sealing_keys(conn, list(values))
        sealed = {name: _sealed(keys[name], value) for name, value in values.items()}
        for _, purpose in values:
            telemetry.count("vault_sealed_total", purpose=purpose)
        return sealed

    async def open(self, conn: Connection, sealed: Sealed[Any], model: type[ModelT]) -> ModelT:
        """Decrypt. Raises VaultError unknown_key, erased, not_allowed, tampered, wrong_content."""
        return (await self.open_many(conn, [sealed], model))[0]

    def open_kept(self, sealed: Sealed[Any], model: type[ModelT]) -> ModelT | None:
        """Decrypt with a key that was opened within the last minute; None when there is none.

        Raises VaultError tampered, wrong_content.
        """
        key = self._cached(sealed.key_id)
        if key is None:
            return None
        opened = _opened(key, sealed, model)
        telemetry.count("vault_opened_total", purpose=key.purpose)
        return opened

    async def open_many(
        self, conn: Connection, sealed: Sequence[Sealed[Any]], model: type[ModelT]
    ) -> list[ModelT]:
        """Decrypt values of many orders in at most one round trip; all or VaultError."""
        try:
            keys = await self._opening_keys(conn, {item.key_id for item in sealed})
            opened = [_opened(keys[item.key_id], item, model) for item in sealed]
        except VaultError as error:
            telemetry.count("vault_refused_total", model=model.__name__, code=error.code)
            raise
        for item in sealed:
            telemetry.count("vault_opened_total", purpose=keys[item.key_id].purpose)
        return opened

    async def seals(
        self, conn: Connection, beside: Sequence[Sealed[Any]]
    ) -> list[Callable[[BaseModel], Sealed[Any]]]:
        """For each value that was sealed a function that seals more under the same key. It draws
        nothing by chance, so a decision stays a function of what is handed in."""
        keys = await self._opening_keys(conn, {item.key_id for item in beside})
        return [partial(_sealed_alike, keys[item.key_id]) for item in beside]

    def blind(self, text: str) -> str:
        """A salted hash, hex: the same text is recognised again, but cannot be guessed from it."""
        return hmac.digest(self._salt, text.encode(), "sha256").hex()

    async def forget(self, conn: Connection, order_id: UUID) -> int:
        """Erase an order's keys for ever; returns how many. Raises VaultError not_allowed.

        Other processes may still hold an opened key for a minute.
        """
        erased: int | None = await conn.fetchval(SQL["forget_keys"], order_id)
        if erased is None:
            raise VaultError("not_allowed", "this role may not erase the order")
        for key_id in [k for k, (_, key) in self._opened.items() if key.order_id == order_id]:
            del self._opened[key_id]
        telemetry.count("vault_keys_forgotten_total", erased)
        return erased

    async def _sealing_keys(
        self, conn: Connection, names: Sequence[tuple[UUID, Purpose]]
    ) -> dict[tuple[UUID, Purpose], _Key]:
        # New keys go along as candidates; where the order has a key already, that one comes back.
        made = {
            name: _Key(new_id(), name[0], name[1].value, AESGCM.generate_key(256)) for name in names
        }
        rows = await conn.fetch(
            SQL["sealing_keys"],
            [order_id for order_id, _ in names],
            [purpose.value for _, purpose in names],
            [key.key_id for key in made.values()],
            [self._wrap(key) for key in made.values()],
        )
        found = {}
        for row in rows:
            name = (row["order_id"], Purpose(row["purpose"]))
            _check(row["verdict"], row["order_id"], row["purpose"])
            own = made[name]
            found[name] = own if own.key_id == row["key_id"] else self._unwrap(row)
        return found

    async def _opening_keys(self, conn: Connection, key_ids: Iterable[UUID]) -> dict[UUID, _Key]:
        found: dict[UUID, _Key] = {}
        missing: list[UUID] = []
        for key_id in key_ids:
            key = self._cached(key_id)
            if key is None:
                missing.append(key_id)
            else:
                found[key_id] = key
        if missing:
            for row in await conn.fetch(SQL["opening_keys"], missing):
                _check(row["verdict"], row["order_id"], row["purpose"])
                found[row["key_id"]] = self._remember(self._unwrap(row))
        if lost := [key_id for key_id in missing if key_id not in found]:
            raise VaultError("unknown_key", f"no key {lost[0]}")
        return found

    def _cached(self, key_id: UUID) -> _Key | None:
        until, key = self._opened.get(key_id, (0.0, None))
        if key is None or time.monotonic() >= until:
            self._opened.pop(key_id, None)
            return None
        self._opened.move_to_end(key_id)
        return key

    def _remember(self, key: _Key) -> _Key:
        self._opened[key.key_id] = (time.monotonic() + CACHED_S_MAX, key)
        while len(self._opened) > CACHED_KEYS_MAX:
            self._opened.popitem(last=False)
        return key

    def _wrap(self, key: _Key) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, key.material, _bound(key.order_id, key.purpose))

    def _unwrap(self, row: asyncpg.Record) -> _Key:
        order_id, purpose, wrapped = row["order_id"], row["purpose"], row["wrapped"]
        nonce, body = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            material = self._master.decrypt(nonce, body, _bound(order_id, purpose))
        except InvalidTag:
            detail = f"the {purpose} key of order {order_id} is not of this master key"
            raise VaultError("tampered", detail) from None
        return _Key(row["key_id"], order_id, purpose, material)


def _check(verdict: str, order_id: UUID, purpose: str) -> None:
    if verdict == "not_allowed":
        raise VaultError("not_allowed", f"this role may not do that for purpose {purpose}")
    if verdict == "erased":
        raise VaultError("erased", f"the {purpose} key of order {order_id} is erased")


def _sealed(key: _Key, value: BaseModel) -> Sealed[Any]:
    # A fresh random nonce each: one key seals a handful of values in its life.
    return _encrypted(key, os.urandom(NONCE_BYTES), value.model_dump_json().encode())


def _sealed_alike(key: _Key, value: BaseModel) -> Sealed[Any]:
    # A nonce that hangs on every byte: no two different values share one.
    data = value.model_dump_json().encode()
    own = hmac.digest(key.material, b"yaoda nonce 1", "sha256")
    return _encrypted(key, hmac.digest(own, data, "sha256")[:NONCE_BYTES], data)


def _encrypted(key: _Key, nonce: bytes, data: bytes) -> Sealed[Any]:
    ciphertext = AESGCM(key.material).encrypt(nonce, data, _bound(key.order_id, key.purpose))
    return Sealed(
        key_id=key.key_id,
        nonce=base64.b64encode(nonce).decode(),
        ciphertext=base64.b64encode(ciphertext).decode(),
    )


def _opened(key: _Key, sealed: Sealed[Any], model: type[ModelT]) -> ModelT:
    try:
        nonce = base64.b64decode(sealed.nonce, validate=True)
        ciphertext = base64.b64decode(sealed.ciphertext, validate=True)
        bound = _bound(key.order_id, key.purpose)
        data = AESGCM(key.material).decrypt(nonce, ciphertext, bound)
    except (InvalidTag, binascii.Error, ValueError):
        detail = f"{key.purpose} data of order {key.order_id} does not belong to its key"
        raise VaultError("tampered", detail) from None
    try:
        return model.model_validate_json(data)
    except ValidationError:
        detail = f"{key.purpose} data of order {key.order_id} is no {model.__name__}"
        raise VaultError("wrong_content", detail) from None


def _bound(order_id: UUID, purpose: str) -> bytes:
    return f"{order_id}|{purpose}".encode()
