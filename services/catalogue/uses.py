"""How a code of the ATC is used: what acts in the whole body, and what only where it lies."""

__all__ = ["SYSTEMIC_WAYS", "codes_for", "is_local"]

SYSTEMIC_WAYS = frozenset({"oral", "sublingual", "injection", "rectal", "transdermal"})
# Groups for use on skin, eye, ear, nose, mouth, vagina, anus, joints, and in the airways.
_LOCAL = ("A01", "C05A", "C05B", "D", "G01", "G02B", "G02CC", "M02", "N01B", "P03", "R01A", "R02")
_LOCAL_MORE = ("R03A", "R03B", "S")
# Members of these groups that are swallowed or injected all the same.
_SYSTEMIC = ("C05BX", "D01B", "D05B", "D10B", "D11AH04", "D11AH05", "D11AH07", "D11AH08", "S01EC")
_INHALED = ("R03A", "R03B", "R05CB", "J05AH01", "J01GB")


def is_local(code: str) -> bool:
    """Whether the code stands for a use that is not meant to act in the whole body."""
    return code.startswith(_LOCAL + _LOCAL_MORE) and not code.startswith(_SYSTEMIC)


def codes_for(way_in: str, codes: tuple[str, ...]) -> tuple[str, ...]:
    """Those codes of a substance that are meant when it goes in this way; empty way: systemic.

    A substance without any such code keeps all it has, so that nothing goes unseen.
    """
    if way_in in SYSTEMIC_WAYS or not way_in:
        found = tuple(code for code in codes if not is_local(code))
    elif way_in == "inhaled":
        found = tuple(code for code in codes if code.startswith(_INHALED))
    else:
        found = tuple(code for code in codes if is_local(code) and not code.startswith(_INHALED))
    return found or codes
