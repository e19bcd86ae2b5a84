"""Check digits and shapes of drug codes, against published numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalogue import codes

DIGITS = st.text("0123456789", min_size=10, max_size=10)


@pytest.mark.parametrize(
    "code", ["86901890000654", "86901890000661", "86901890000678", "86901110000020"]
)
def test_published_codes_hold(code: str) -> None:
    assert codes.national_code_flaw(code) is None


@pytest.mark.parametrize(
    "code",
    ["86901890000655", "8690189000065", "869018900006540", "96901890000654", "8690189000065４", ""],
)
def test_others_do_not(code: str) -> None:
    assert codes.national_code_flaw(code) is not None


@given(DIGITS)
def test_a_computed_code_is_valid(body: str) -> None:
    assert codes.national_code_flaw(codes.national_code(body)) is None


@given(DIGITS, st.integers(3, 13), st.integers(1, 9))
def test_any_one_wrong_digit_is_seen(body: str, place: int, by: int) -> None:
    code = codes.national_code(body)
    wrong = str((int(code[place]) + by) % 10)
    assert codes.national_code_flaw(code[:place] + wrong + code[place + 1 :]) is not None


@given(st.text("国药准字HXZT0123456789ABC ９", max_size=20))
def test_no_text_breaks_the_checks(text: str) -> None:
    for check in (
        codes.national_code_flaw,
        codes.approval_number_flaw,
        codes.atc_flaw,
        codes.nhsa_code_flaw,
    ):
        assert check(text) is None or check(text)


@pytest.mark.parametrize(
    ("number", "good"),
    [("国药准字H20041126", True), ("国药准字H2004112", False), ("H20041126", False)],
)
def test_approval_numbers(number: str, good: bool) -> None:
    assert (codes.approval_number_flaw(number) is None) is good
