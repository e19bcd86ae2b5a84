"""The shapes of China's drug codes and their check digits."""

import re

__all__ = [
    "ATC",
    "NATIONAL_CODE_SOURCE",
    "approval_number_flaw",
    "atc_flaw",
    "check_digit",
    "national_code",
    "national_code_flaw",
    "nhsa_code_flaw",
]

# Digits count leftwards from the check digit, which is digit 1: those at even places count thrice,
# those at odd places once, and the check digit fills up to the next ten. The same as a GTIN's.
NATIONAL_CODE_SOURCE = "国食药监办〔2009〕315号, 国家药品编码本位码编制规则, GB 18937"
NATIONAL_CODE_DIGITS = 14
NATIONAL_CODE_START = "869"

_APPROVAL = re.compile(r"国药准字[HZSBTFJ]\d{8}")
ATC = re.compile(r"[A-Z]\d{2}[A-Z]{2}\d{2}")
_WESTERN = re.compile(r"X[A-Z]\d{2}[A-Z]{2}[A-Z0-9]{17}")
_PATENT = re.compile(r"Z[A-Z0-9]{19}")
_HERBAL = re.compile(r"T[A-Z0-9]{4,23}")


def check_digit(digits: str) -> str:
    """The digit that follows these. Raises ValueError when they are no digits."""
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{digits!r} is not made of digits")
    weighted = sum(
        int(d) * (3 if place % 2 == 0 else 1) for place, d in enumerate(reversed(digits))
    )
    return str(-weighted % 10)


def national_code(body: str) -> str:
    """The 药品本位码 of a body of ten digits: five of the maker, five of the product."""
    if len(body) != NATIONAL_CODE_DIGITS - len(NATIONAL_CODE_START) - 1:
        raise ValueError(f"{body!r} does not have ten digits")
    start = NATIONAL_CODE_START + body
    return start + check_digit(start)


def national_code_flaw(code: str) -> str | None:
    """What is wrong with a 药品本位码, or None."""
    if len(code) != NATIONAL_CODE_DIGITS or not (code.isascii() and code.isdigit()):
        return f"not {NATIONAL_CODE_DIGITS} digits"
    if not code.startswith(NATIONAL_CODE_START):
        return f"does not begin with {NATIONAL_CODE_START}"
    right = check_digit(code[:-1])
    return None if code[-1] == right else f"check digit is {code[-1]}, computed {right}"


def approval_number_flaw(number: str) -> str | None:
    """What is wrong with a 批准文号, or None. The meaning of its letter is not judged."""
    return None if _APPROVAL.fullmatch(number) else "not 国药准字, one of HZSBTFJ and 8 digits"


def atc_flaw(code: str) -> str | None:
    """What is wrong with the shape of a seven-character ATC code, or None."""
    return None if ATC.fullmatch(code) else "not a letter, 2 digits, 2 letters, 2 digits"


def nhsa_code_flaw(code: str) -> str | None:
    """What is wrong with the shape of an NHSA-like drug code, or None."""
    if _WESTERN.fullmatch(code) or _PATENT.fullmatch(code) or _HERBAL.fullmatch(code):
        return None
    return "not X and 22, Z and 19, or T and 4 to 23 characters"
