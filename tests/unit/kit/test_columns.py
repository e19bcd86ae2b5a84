"""Columns as text: what the database reads as an array, and never anything else."""

import pytest

from services.kit.columns import column


def test_words_stand_between_commas_and_none_is_null() -> None:
    assert column(["A1", None, "-3", "2026-03-02T04:00:00+00:00"]) == (
        "{A1,NULL,-3,2026-03-02T04:00:00+00:00}"
    )
    assert column([]) == "{}"


@pytest.mark.parametrize("word", ["", "a,b", "a b", "}", '"', "\\", "a\nb"])
def test_what_would_be_read_as_something_else_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="quoted"):
        column(["A1", word])
