"""`yaoda catalogue` names flaws and takes nothing, unless asked."""

from pathlib import Path

import pytest

from services.commands.catalogue import NoFolder, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("catalogue")
    assert main(["grow", str(path), "--rows", "5"]) == 0
    return path


def test_a_good_folder_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder)]) == 0
    assert "5 products" in capsys.readouterr().out


def test_a_wrong_row_is_named_and_left_out_only_when_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "products.csv"
    good = file.read_text("utf-8")
    file.write_text(good.replace(",tablet,", ",brick,", 1), "utf-8")
    try:
        assert main(["check", str(folder)]) == 1
        assert "products.csv:2: form: 'brick'" in capsys.readouterr().err
        assert main(["check", str(folder), "--partial"]) == 0
        assert "4 products" in capsys.readouterr().out
    finally:
        file.write_text(good, "utf-8")


def test_search_prints_what_it_finds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", "aldp"]) == 0
    assert "苯磺酸氨氯地平片" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoFolder, match="there is no folder"):
        main(["check", str(tmp_path / "nowhere")])
