"""What a case has that whole rules are about: where it has none of it, they are not asked."""

from services.review.rules.case import Sign
from services.review.rules.subject import Subject

(
    ONLINE,
    LONG,
    HISTORY,
    NO_HISTORY,
    ALLERGIES,
    NO_ALLERGIES_GIVEN,
    PROBLEMS,
    COUNTERSIGNED,
    MINOR,
    EXTENDED,
    UNKNOWN_CURRENT,
    USAGE,
    UNMEASURED,
    UNSTATED,
    RENAMED,
    SHARED,
    CROWDED,
    MAYBE_FIRST,
    NO_CURRENT,
    UNSIGNED,
) = (1 << number for number in range(20))
ADULT_YEARS = 18
# Days for which a prescription may be in force without anybody having to look.
VALID_DAYS = 3
# Lines that nobody minds on one prescription.
FEW_LINES = 5


def traits_of(subject: Subject) -> int:
    """The traits of one case, as bits. One that is there too often costs a question, no more."""
    return _of_sheet(subject) | _of_lines(subject) | (SHARED if subject.twice else 0)


def unsigned(sign: Sign) -> bool:
    """Not signed by a person."""
    return sign.automatic or not sign.signer.strip() or not sign.value.strip()


def _of_sheet(subject: Subject) -> int:
    case, person = subject.case, subject.case.patient
    found = 0
    if case.internet_hospital is not False:
        found |= ONLINE
    if case.long_term:
        found |= LONG
    if case.history is None:
        found |= NO_HISTORY
    elif case.history:
        found |= HISTORY
    if person.allergies is None:
        found |= NO_ALLERGIES_GIVEN
    elif person.allergies:
        found |= ALLERGIES
    if case.problems:
        found |= PROBLEMS
    if case.pharmacist is not None:
        found |= COUNTERSIGNED
    if person.age_years is None or person.age_years < ADULT_YEARS:
        found |= MINOR
    if case.valid_days is not None and not 1 <= case.valid_days <= VALID_DAYS:
        found |= EXTENDED
    if case.first_visit is not False:
        found |= MAYBE_FIRST
    if case.prescriber is None or unsigned(case.prescriber):
        found |= UNSIGNED
    if case.current is None:
        found |= NO_CURRENT
    elif [drug for drug in case.current if not drug.known]:
        found |= UNKNOWN_CURRENT
    return found


def _of_lines(subject: Subject) -> int:
    lines = subject.case.lines
    found = CROWDED if len(lines) > FEW_LINES else 0
    for line in lines:
        if line.usage:
            found |= USAGE
        if line.rate is None:
            found |= UNMEASURED
        if line.dose is None or line.days is None:
            found |= UNSTATED
        if line.name != line.drug.zh:
            found |= RENAMED
    return found
