"""The settlement arithmetic of the e-voucher: pure, in whole fen, no IO.

`quote` computes, `broken` names the identities a settlement violates, `after` and `undone` keep the
year's figures. Source: the public interface fields of 2101/2102 (`setlinfo`, `detlcutinfo`); what
they leave open is a named option of `Reading`.
"""

from services.claim.domain.settlement.arithmetic import china_day, day_in_china, quote
from services.claim.domain.settlement.claim import (
    ChargeClass,
    Claim,
    ClaimRefused,
    Line,
    Person,
    Settlement,
    YearFigures,
)
from services.claim.domain.settlement.identities import broken
from services.claim.domain.settlement.policy import (
    Band,
    Benefit,
    BenefitKind,
    Policy,
    Reading,
    Supplement,
    SupplementKind,
    in_force,
    levels,
)
from services.claim.domain.settlement.year import after, undone

__all__ = [
    "Band",
    "Benefit",
    "BenefitKind",
    "ChargeClass",
    "Claim",
    "ClaimRefused",
    "Line",
    "Person",
    "Policy",
    "Reading",
    "Settlement",
    "Supplement",
    "SupplementKind",
    "YearFigures",
    "after",
    "broken",
    "china_day",
    "day_in_china",
    "in_force",
    "levels",
    "quote",
    "undone",
]
