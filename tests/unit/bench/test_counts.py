"""What is measured on nothing is no figure: counts of none are refused by their names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench import country, geo, quotes


@pytest.mark.parametrize("name", ["--pharmacies", "--cities"])
def test_a_country_of_nothing_is_not_asked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _refused(geo.main, [f"{name}=0"], name, capsys)


@pytest.mark.parametrize("name", ["--pharmacies", "--cities"])
def test_a_country_of_nothing_is_not_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _refused(country.main, [str(tmp_path), f"{name}=0"], name, capsys)


@pytest.mark.parametrize("name", ["--pharmacies", "--quotes"])
def test_no_quotes_are_not_timed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _refused(quotes.main, [f"{name}=0"], name, capsys)


def _refused(
    main: Callable[[Sequence[str]], int],
    asked: Sequence[str],
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(asked)
    assert name in capsys.readouterr().err
