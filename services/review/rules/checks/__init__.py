"""The questions rules can ask. Figures come from the pack, so that a rule changes as data."""

from services.review.rules.checks import conduct, dose, form, online, person, supply, together
from services.review.rules.checks.base import Check, Figures

__all__ = ["CHECKS", "Check", "Figures"]

CHECKS: dict[str, Check] = {
    **form.CHECKS,
    **supply.CHECKS,
    **online.CHECKS,
    **together.CHECKS,
    **dose.CHECKS,
    **person.CHECKS,
    **conduct.CHECKS,
}
