"""Who may open what, and that forgetting is final."""

import asyncio
import base64
import json
import time
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from schemas.values import Address, GeoPoint, Purpose, Sealed, Voucher
from services.kit import vault as module
from services.kit.ids import new_id
from services.kit.vault import Vault, VaultError
from tests.databases import Database
from tests.integration.kit.databases import connected

pytestmark = pytest.mark.live
MASTER = bytes(range(32))
CANARY = "CANARY-HOME"
HOME = Address(name="x", phone="1", address=CANARY, point=GeoPoint(lat=31.2, lon=121.4))
VOUCHER = Voucher(token="t", person_name="y", certificate_number="2")


async def sealed_order(database: Database) -> tuple[UUID, dict[Purpose, Sealed[Address]]]:
    order = new_id()
    async with connected(database, "prescription") as conn:
        values = {Purpose.LABEL: HOME, Purpose.COURIER: HOME, Purpose.PAYER: VOUCHER}
        return order, await Vault(MASTER).seal_many(conn, order, {**values, Purpose.REVIEW: HOME})


async def refused(conn: asyncpg.Connection, vault: Vault, sealed: Sealed[Address]) -> str:
    with pytest.raises(VaultError) as caught:
        await vault.open(conn, sealed, Address)
    assert CANARY not in str(caught.value)
    # The caller's transaction must not be lost by a refusal.
    assert await conn.fetchval("SELECT 1") == 1
    return caught.value.code


async def test_each_service_opens_its_own_purpose_only(database: Database) -> None:
    _, sealed = await sealed_order(database)
    allowed = {
        "prescription": {Purpose.REVIEW},
        "review": {Purpose.REVIEW},
        "claim": {Purpose.PAYER},
        "delivery": {Purpose.LABEL, Purpose.COURIER},
        "dispatch": set(),
        "network": set(),
        "ops": set(),
        "sandbox_payer": set(),
    }
    for role, purposes in allowed.items():
        async with connected(database, role) as conn, conn.transaction():
            vault = Vault(MASTER)
            for purpose, value in sealed.items():
                if purpose not in purposes:
                    assert await refused(conn, vault, value) == "not_allowed"
                elif purpose is Purpose.PAYER:
                    assert await vault.open(conn, value, Voucher) == VOUCHER
                else:
                    assert await vault.open(conn, value, Address) == HOME


async def test_only_prescription_seals(database: Database) -> None:
    for role in ("review", "claim", "delivery", "ops"):
        async with connected(database, role) as conn:
            with pytest.raises(VaultError, match="not_allowed"):
                await Vault(MASTER).seal(conn, new_id(), Purpose.LABEL, HOME)
    async with connected(database, "claim", user="yaoda") as owner:
        assert await owner.fetchval("SELECT count(*) FROM kit.data_key") == 0


async def test_nothing_of_the_person_is_readable(database: Database) -> None:
    _, sealed = await sealed_order(database)
    text = "".join(item.model_dump_json() for item in sealed.values())
    raw = b"".join(base64.b64decode(item.ciphertext) for item in sealed.values())
    assert CANARY not in text
    assert CANARY.encode() not in raw
    async with connected(database, "claim", user="yaoda") as owner:
        keys = await owner.fetch("SELECT wrapped FROM kit.data_key")
        assert len(keys) == 4
        assert len({row["wrapped"] for row in keys}) == 4


async def test_one_key_an_order_and_purpose_whoever_is_first(database: Database) -> None:
    order = new_id()

    async def seal(_n: int) -> Sealed[Address]:
        async with connected(database, "prescription") as conn:
            return await Vault(MASTER).seal(conn, order, Purpose.LABEL, HOME)

    made = await asyncio.gather(*(seal(n) for n in range(5)))
    assert len({item.key_id for item in made}) == 1
    assert len({item.nonce for item in made}) == 5
    async with connected(database, "delivery") as conn:
        assert await Vault(MASTER).open_many(conn, made, Address) == [HOME] * 5


async def test_forgetting_is_final(database: Database) -> None:
    order, sealed = await sealed_order(database)
    other, kept = await sealed_order(database)
    warm = Vault(MASTER)
    async with connected(database, "delivery") as conn:
        await warm.open(conn, sealed[Purpose.LABEL], Address)
        with pytest.raises(VaultError, match="not_allowed"):
            await warm.forget(conn, order)
    vault = Vault(MASTER)
    async with connected(database, "prescription") as conn:
        await vault.open(conn, sealed[Purpose.REVIEW], Address)
        assert await vault.forget(conn, order) == 4
        assert await vault.forget(conn, order) == 0
        assert await refused(conn, vault, sealed[Purpose.REVIEW]) == "erased"
        with pytest.raises(VaultError, match="erased"):
            await vault.seal(conn, order, Purpose.LABEL, HOME)
    async with connected(database, "delivery") as conn:
        assert await refused(conn, Vault(MASTER), sealed[Purpose.LABEL]) == "erased"
        assert await Vault(MASTER).open(conn, kept[Purpose.LABEL], Address) == HOME
    async with connected(database, "claim", user="yaoda") as owner:
        left = "SELECT DISTINCT order_id FROM kit.data_key WHERE wrapped IS NOT NULL"
        assert [row["order_id"] for row in await owner.fetch(left)] == [other]
        assert await vault.forget(owner, other) == 4


async def test_an_opened_key_is_forgotten_after_a_minute(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, sealed = await sealed_order(database)
    warm = Vault(MASTER)
    async with connected(database, "delivery") as conn:
        await warm.open(conn, sealed[Purpose.LABEL], Address)
        async with connected(database, "prescription") as other:
            await Vault(MASTER).forget(other, order)
        await warm.open(conn, sealed[Purpose.LABEL], Address)
        later = time.monotonic() + module.CACHED_S_MAX
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert await refused(conn, warm, sealed[Purpose.LABEL]) == "erased"


async def test_the_cache_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_KEYS_MAX", 3)
    _, sealed = await sealed_order(database)
    vault = Vault(MASTER)
    async with connected(database, "prescription") as conn:
        many = {(new_id(), Purpose.REVIEW): HOME for _ in range(5)}
        made = await vault.seal_batch(conn, many)
        assert set(made) == set(many)
        assert await vault.open_many(conn, list(made.values()), Address) == [HOME] * 5
        assert len(vault._opened) == 3
        # What was sealed here is not open here: label belongs to the pharmacy.
        assert await refused(conn, vault, sealed[Purpose.LABEL]) == "not_allowed"


async def test_changed_data_and_strange_keys_are_refused(database: Database) -> None:
    _, sealed = await sealed_order(database)
    _, strange = await sealed_order(database)
    label, courier = sealed[Purpose.LABEL], sealed[Purpose.COURIER]
    flipped = bytearray(base64.b64decode(label.ciphertext))
    flipped[0] ^= 1
    changed = label.model_copy(update={"ciphertext": base64.b64encode(flipped).decode()})
    garbage = label.model_copy(update={"ciphertext": "%%%"})
    swapped = label.model_copy(update={"key_id": courier.key_id})
    moved = label.model_copy(update={"key_id": strange[Purpose.LABEL].key_id})
    unknown = label.model_copy(update={"key_id": new_id()})
    async with connected(database, "delivery") as conn:
        vault = Vault(MASTER)
        for wrong in (changed, garbage, swapped, moved):
            assert await refused(conn, vault, wrong) == "tampered"
        assert await refused(conn, vault, unknown) == "unknown_key"
        assert await refused(conn, Vault(bytes(32)), label) == "tampered"
        with pytest.raises(VaultError, match="wrong_content"):
            await vault.open(conn, label, Voucher)


async def test_the_master_key_is_read_from_its_file(database: Database, tmp_path: Path) -> None:
    assert Vault.load(database.instance.secrets / "master.key")
    for text in ("", "ab" * 31, "s3cret" * 11):
        (tmp_path / "key").write_text(text)
        with pytest.raises(VaultError, match="master_key") as caught:
            Vault.load(tmp_path / "key")
        assert not text or text not in str(caught.value)
    with pytest.raises(VaultError, match="No such file"):
        Vault.load(tmp_path / "absent")


async def test_a_sealed_part_survives_the_contract(database: Database) -> None:
    _, sealed = await sealed_order(database)
    text = sealed[Purpose.LABEL].model_dump_json()
    assert set(json.loads(text)) == {"key_id", "alg", "nonce", "ciphertext"}
    async with connected(database, "delivery") as conn:
        again = Sealed[Address].model_validate_json(text)
        assert await Vault(MASTER).open(conn, again, Address) == HOME


async def test_a_data_key_cannot_be_lent_to_another_order(database: Database) -> None:
    _, sealed = await sealed_order(database)
    _, other = await sealed_order(database)
    one, two = sealed[Purpose.LABEL], other[Purpose.LABEL]
    async with connected(database, "claim", user="yaoda") as owner:
        await owner.execute(
            "UPDATE kit.data_key a SET wrapped = b.wrapped FROM kit.data_key b"
            " WHERE a.key_id = $1 AND b.key_id = $2",
            one.key_id,
            two.key_id,
        )
    async with connected(database, "delivery") as conn:
        assert await refused(conn, Vault(MASTER), one) == "tampered"
        assert await Vault(MASTER).open(conn, two, Address) == HOME
