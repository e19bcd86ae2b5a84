"""The files of an invented country are such as can be imported."""

from datetime import UTC, datetime
from pathlib import Path

from bench import country
from bench.geo import PRODUCTS
from services.catalogue import products
from services.commands.city import has_payer
from services.network import bulk, packs

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_all_files_are_sound(tmp_path: Path) -> None:
    assert country.main([str(tmp_path), "--pharmacies", "4", "--cities", "2"]) == 0
    found = packs.read(tmp_path / "cities", has_payer)
    assert (found.flaws, len(found.cities)) == ([], 2)
    for name, form, rows in (
        ("shops.ndjson", bulk.Form.NDJSON, 4),
        ("stock.csv", bulk.Form.CSV, 4 * PRODUCTS),
    ):
        read = bulk.read((tmp_path / name).read_bytes(), form, NOW, products().keys())
        assert (read.bad, read.rows, len(read.batches)) == ([], rows, 4)
