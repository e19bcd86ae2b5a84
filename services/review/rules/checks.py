"""The questions rules can ask. Figures come from the pack, so that a rule changes as data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.prescription import PrescriptionClass, Signature
from services.catalogue import Control, Form, Kind, Product, Special, products
from services.review.rules.subject import Hit, Line, Subject

Hits = Iterator[Hit]


class Figures(BaseModel):
    """The numbers and lists of one rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Maximum(Figures):
    """One upper bound."""

    maximum: int


def too_many_drugs(subject: Subject, figures: Maximum) -> Hits:
    """Herbal pieces make one prescription together and are not counted."""
    count = sum(1 for line in subject.lines if not (line.product and line.product.herbal))
    if count > figures.maximum:
        yield Hit(f"{count} drugs, at most {figures.maximum}")


def herbal_apart(subject: Subject, figures: Figures) -> Hits:
    """Herbal pieces stand alone; western and patent medicines may share a sheet."""
    herbal = {item.herbal for _, item in subject.known}
    if len(herbal) > 1:
        yield Hit("herbal pieces and other drugs on one prescription")


class EmptyTexts(Figures):
    """Words that say nothing."""

    empty_texts: frozenset[str]


def diagnosis_present(subject: Subject, figures: EmptyTexts) -> Hits:
    """At least one diagnosis with words of its own."""
    texts = (found.text.strip() for found in subject.sheet.diagnoses)
    if not any(text and text not in figures.empty_texts for text in texts):
        yield Hit("no diagnosis is stated")


def named_as_catalogued(subject: Subject, figures: Figures) -> Hits:
    """A drug goes by its generic name; a name or code nobody knows cannot be checked."""
    for line in subject.lines:
        if line.product is None:
            yield Hit(f"{line.name}: unknown product, unverifiable", line.number, True)
        elif line.name != line.product.generic_name:
            yield Hit(f"{line.name}: the catalogue says {line.product.generic_name}", line.number)


class Tolerance(Figures):
    """How far ahead a clock may be."""

    ahead_minutes: int


def in_force(subject: Subject, figures: Tolerance) -> Hits:
    """Valid up to and including the same clock time of the last day."""
    if subject.now > subject.ends_at:
        yield Hit("no longer in force")
    elif subject.sheet.issued_at > subject.now + timedelta(minutes=figures.ahead_minutes):
        yield Hit("issued in the future")


def signed_by_a_person(subject: Subject, figures: Figures) -> Hits:
    """The treating physician signs in person; software does not."""
    sheet = subject.sheet
    if _unsigned(sheet.prescriber):
        yield Hit("not signed by the prescriber in person")
    if sheet.pharmacist is not None and _unsigned(sheet.pharmacist):
        yield Hit("the hospital pharmacist's signature is no person's")


def _unsigned(signature: Signature) -> bool:
    return signature.automatic or not signature.signer.strip() or not signature.value.strip()


def two_persons(subject: Subject, figures: Figures) -> Hits:
    """The hospital's pharmacist is another person than the prescriber."""
    pharmacist = subject.sheet.pharmacist
    if pharmacist is not None and pharmacist.signer == subject.sheet.prescriber.signer:
        yield Hit("prescriber and pharmacist are one person")


class SupplyDays(Figures):
    """Days of supply that need no reason, and diagnoses that are one."""

    ordinary: int
    emergency: int
    emergency_classes: frozenset[PrescriptionClass]
    chronic: tuple[str, ...]


def supply_has_reason(subject: Subject, figures: SupplyDays) -> Hits:
    """Longer needs the doctor's reason, or a long prescription for a chronic disease."""
    sheet = subject.sheet
    chronic = sheet.long_term and subject.has_diagnosis(figures.chronic)
    if sheet.long_term_reason.strip() or chronic:
        return
    urgent = sheet.rx_class in figures.emergency_classes
    limit = figures.emergency if urgent else figures.ordinary
    for line in _exceeding(subject, limit):
        yield Hit(f"{line.name}: over {limit} days without a reason", line.number)


def supply_at_most(subject: Subject, figures: Maximum) -> Hits:
    """No reason lengthens this."""
    for line in _exceeding(subject, figures.maximum):
        yield Hit(f"{line.name}: over {figures.maximum} days", line.number)


def long_supply_is_declared(subject: Subject, figures: Maximum) -> Hits:
    """Beyond this it must be a long prescription, confirmed by the patient."""
    sheet = subject.sheet
    if sheet.long_term and sheet.patient_confirmed_long_term:
        return
    missing = "the patient's confirmation" if sheet.long_term else "the mark of a long prescription"
    for line in _exceeding(subject, figures.maximum):
        yield Hit(f"{line.name}: over {figures.maximum} days without {missing}", line.number)


def _exceeding(subject: Subject, days: int) -> Iterator[Line]:
    return (line for line in subject.lines if line.exceeds(days))


class NeverLong(Figures):
    """Drugs that a long prescription must not hold, and the infections that excuse one."""

    controls: frozenset[Control]
    excused: tuple["Excuse", ...]


class Excuse(Figures):
    """A chronic infection: these drugs for these diagnoses."""

    atc: tuple[str, ...]
    diagnoses: tuple[str, ...]


def fit_for_long_term(subject: Subject, figures: NeverLong) -> Hits:
    """Controlled, antimicrobial and specially stored drugs are never prescribed long."""
    if not subject.sheet.long_term:
        return
    for line, item in subject.known:
        if item.control in figures.controls or item.cold_chain:
            yield Hit(f"{line.name}: never on a long prescription", line.number)
        elif item.antimicrobial and not _excused(subject, item, figures):
            yield Hit(f"{line.name}: antimicrobial on a long prescription", line.number)


def _excused(subject: Subject, item: Product, figures: NeverLong) -> bool:
    return any(
        item.atc.startswith(excuse.atc) and subject.has_diagnosis(excuse.diagnoses)
        for excuse in figures.excused
    )


def frequency_is_known(subject: Subject, figures: Figures) -> Hits:
    """As needed, or a code without a rate: nobody can compute the days."""
    for line in subject.lines:
        if not line.measurable:
            code = line.written.frequency
            yield Hit(f"{line.name}: frequency {code} has no daily rate", line.number, True)


def quantity_fits(subject: Subject, figures: Figures) -> Hits:
    """The packs are the fewest that last the days, and a pack is the catalogue's pack."""
    for line, item in subject.known:
        packs, quantity = line.packs_for(line.written.days), line.written.quantity
        if line.written.units_per_pack != item.units_per_pack:
            yield Hit(f"{line.name}: a pack holds {item.units_per_pack} {item.unit}", line.number)
        elif packs is not None and quantity != packs:
            text = f"{line.name}: {quantity} packs, {packs} last {line.written.days} days"
            yield Hit(text, line.number)


class ByLaw(Figures):
    """Kinds of product that may not be sold online at all."""

    controls: frozenset[Control]
    specials: frozenset[Special]
    atc: tuple[str, ...]


def banned_by_law(subject: Subject, figures: ByLaw) -> Hits:
    """Controlled drugs, vaccines, blood products and their like."""
    for line, item in subject.known:
        listed = item.control in figures.controls or item.special in figures.specials
        if listed or item.atc.startswith(figures.atc):
            yield Hit(f"{line.name}: may not be sold online by law", line.number)


class Injections(Figures):
    """The injections that may be sold."""

    allowed_atc: tuple[str, ...]


def banned_injection(subject: Subject, figures: Injections) -> Hits:
    """Injections, but for those that lower glucose."""
    for line, item in subject.known:
        if item.form is Form.INJECTION and not item.atc.startswith(figures.allowed_atc):
            yield Hit(f"{line.name}: injections may not be sold online", line.number)


class Contains(Figures):
    """Ingredients, and whether the rule means compounds or the drug alone."""

    ingredients: frozenset[str]
    compound: bool
    oral_only: bool
    kinds: frozenset[Kind]


def banned_ingredient(subject: Subject, figures: Contains) -> Hits:
    """A compound that contains one of these, or one of these alone."""
    for line, item in subject.known:
        meant = item.compound is figures.compound and item.kind in figures.kinds
        if meant and (item.oral or not figures.oral_only):
            for name in sorted(figures.ingredients.intersection(item.ingredients)):
                yield Hit(f"{line.name}: contains {name}", line.number)


class Doping(Figures):
    """Anabolic agents and peptide hormones, but for insulin."""

    atc: tuple[str, ...]
    except_atc: tuple[str, ...]


def banned_doping(subject: Subject, figures: Doping) -> Hits:
    """The doping list's hormones."""
    for line, item in subject.known:
        listed = item.doping or item.atc.startswith(figures.atc)
        if listed and not item.atc.startswith(figures.except_atc):
            yield Hit(f"{line.name}: anabolic agent or peptide hormone", line.number)


class Named(Figures):
    """One name of the list."""

    zh: str
    inn: str
    atc: tuple[str, ...] = ()
    antibacterial: bool = False
    compound: bool = False


class NameList(Figures):
    """The list by generic name."""

    names: tuple[Named, ...]


def banned_by_name(subject: Subject, figures: NameList) -> Hits:
    """Single drugs only, unless a compound is listed itself; antibacterials not on the skin."""
    for line, item in subject.known:
        for name in figures.names:
            if _listed(item, name):
                yield Hit(f"{line.name}: {name.zh} may not be sold online", line.number)


def _listed(item: Product, name: Named) -> bool:
    if item.inn != name.inn and item.atc not in name.atc:
        return False
    return item.compound is name.compound and not (name.antibacterial and item.topical)


def follow_up_only(subject: Subject, figures: Figures) -> Hits:
    """An internet hospital sees nobody for the first time."""
    if subject.sheet.internet_hospital and subject.sheet.first_visit:
        yield Hit("first visit at an internet hospital")


class OnlineControls(Figures):
    """What an internet hospital may not prescribe."""

    controls: frozenset[Control]
    classes: frozenset[PrescriptionClass]


def uncontrolled_online(subject: Subject, figures: OnlineControls) -> Hits:
    """No narcotics, psychotropics and other specially controlled drugs."""
    if not subject.sheet.internet_hospital:
        return
    if subject.sheet.rx_class in figures.classes:
        yield Hit("a prescription class that an internet hospital may not issue")
    for line, item in subject.known:
        if item.control in figures.controls:
            yield Hit(f"{line.name}: {item.control} from an internet hospital", line.number)


class ChildAge(Figures):
    """Full years from which the rule no longer speaks."""

    from_age: int


def child_is_accompanied(subject: Subject, figures: ChildAge) -> Hits:
    """A young child needs a guardian and a specialist beside it."""
    child, accompanied = _online_child(subject, figures), _accompanied(subject)
    if child is None:
        yield Hit("the age cannot be told", unverifiable=True)
    elif child and not accompanied:
        yield Hit(f"under {figures.from_age} without guardian and specialist present")


def child_is_looked_at(subject: Subject, figures: ChildAge) -> Hits:
    """Even accompanied, a young child's prescription is read by a person."""
    if _online_child(subject, figures) and _accompanied(subject):
        yield Hit(f"under {figures.from_age}, guardian and specialist present")


def _online_child(subject: Subject, figures: ChildAge) -> bool | None:
    age = subject.age_on_issue()
    if age is None:
        return None
    return subject.sheet.internet_hospital and age < figures.from_age


def _accompanied(subject: Subject) -> bool:
    return subject.patient.guardian_present and subject.patient.specialist_present


class AllergyClass(Figures):
    """Words that name a class of drugs."""

    words: frozenset[str]
    atc: tuple[str, ...]


class Allergies(Figures):
    """Words for classes, for nothing, and for what is no drug."""

    classes: tuple[AllergyClass, ...]
    none_words: frozenset[str]
    not_drugs: frozenset[str]


def allergies_avoided(subject: Subject, figures: Allergies) -> Hits:
    """An allergy that names a line, or a word that cannot be matched to anything."""
    for allergy in subject.patient.allergies:
        word = allergy.strip().lower()
        if not word or word in figures.none_words or word in figures.not_drugs:
            continue
        touched = [line for line, item in subject.known if _allergic(word, item, figures)]
        for line in touched:
            yield Hit(f"{line.name}: an allergy is recorded", line.number)
        if not touched and not _knows(word, figures):
            yield Hit("an allergy that names no known drug, unverifiable", None, True)


def _allergic(word: str, item: Product, figures: Allergies) -> bool:
    if any(part in word or word in part for part in item.ingredients):
        return True
    return word in item.generic_name or any(
        _in_class(word, item, group) for group in figures.classes
    )


def _in_class(word: str, item: Product, group: AllergyClass) -> bool:
    return any(w in word for w in group.words) and item.atc.startswith(group.atc)


def _knows(word: str, figures: Allergies) -> bool:
    """Whether any drug of the catalogue, or any class, goes by this word."""
    if any(w in word for group in figures.classes for w in group.words):
        return True
    return any(_allergic(word, item, figures) for item in products().values())


@dataclass(frozen=True, slots=True)
class Check:
    """A question and the figures it needs."""

    figures: type[Figures]
    ask: Callable[[Subject, Any], Hits]


CHECKS: dict[str, Check] = {
    "too_many_drugs": Check(Maximum, too_many_drugs),
    "herbal_apart": Check(Figures, herbal_apart),
    "diagnosis_present": Check(EmptyTexts, diagnosis_present),
    "named_as_catalogued": Check(Figures, named_as_catalogued),
    "in_force": Check(Tolerance, in_force),
    "signed_by_a_person": Check(Figures, signed_by_a_person),
    "two_persons": Check(Figures, two_persons),
    "supply_has_reason": Check(SupplyDays, supply_has_reason),
    "supply_at_most": Check(Maximum, supply_at_most),
    "long_supply_is_declared": Check(Maximum, long_supply_is_declared),
    "long_supply_is_looked_at": Check(Maximum, supply_at_most),
    "fit_for_long_term": Check(NeverLong, fit_for_long_term),
    "frequency_is_known": Check(Figures, frequency_is_known),
    "quantity_fits": Check(Figures, quantity_fits),
    "banned_by_law": Check(ByLaw, banned_by_law),
    "banned_injection": Check(Injections, banned_injection),
    "banned_ingredient": Check(Contains, banned_ingredient),
    "banned_doping": Check(Doping, banned_doping),
    "banned_by_name": Check(NameList, banned_by_name),
    "follow_up_only": Check(Figures, follow_up_only),
    "uncontrolled_online": Check(OnlineControls, uncontrolled_online),
    "child_is_accompanied": Check(ChildAge, child_is_accompanied),
    "child_is_looked_at": Check(ChildAge, child_is_looked_at),
    "allergies_avoided": Check(Allergies, allergies_avoided),
}
