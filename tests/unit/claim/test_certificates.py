"""Blanked-out numbers of certificates are compared by what they show."""

import pytest

from services.claim.nhsa.certificates import Unreadable, same_certificate

OURS = "31010119900307123X"


@pytest.mark.parametrize(
    ("told", "same"),
    [
        ("", True),
        (OURS, True),
        (f" {OURS.lower()} ", True),
        ("310***********123X", True),
        ("*" * 18, True),
        ("3*0*0*1*9*0*0*1*3*", True),
        ("310***********1234", False),
        ("311***********123X", False),
        ("310101199003071231", False),
        ("31010119900307123", False),
    ],
)
def test_what_is_shown_decides(told: str, same: bool) -> None:
    assert same_certificate(told, OURS, "*") is same


@pytest.mark.parametrize(
    ("told", "blank"),
    [
        # Blanks that stand for more than one digit each
        ("310****123X", "*"),
        # a blank that the province's row does not name, or names another
        ("310***********123X", ""),
        ("310＊＊＊＊＊＊＊＊＊＊＊123X", "*"),
    ],
)
def test_what_cannot_be_compared_is_no_answer(told: str, blank: str) -> None:
    with pytest.raises(Unreadable):
        same_certificate(told, OURS, blank)
