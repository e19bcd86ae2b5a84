"""Alert fatigue is a defect: few clean prescriptions reach a person, and wrong ones still do.

Clean prescriptions come from `bench.clinic`, which knows nothing of the rules.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import clinic
from bench.clinic import TO_A_PERSON_MAX, Clean, asked, mix, told_of
from services.catalogue import product
from services.review.rules import Kind, Pack, pack
from services.review.rules.shelf import installed

SEED, COUNT = 5, 500
# Of prescriptions with an error planted, so many must not pass unseen.
STOPPED_MIN = 0.95


@pytest.fixture(scope="module")
def mixes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Clean]]:
    folder: Path = tmp_path_factory.mktemp("standard")
    return {
        "clinic": list(clinic.clean(COUNT, SEED)),
        "standard": list(clinic.standard(folder, SEED)),
    }


@pytest.mark.parametrize("name", ["clinic", "standard"])
@pytest.mark.parametrize("rules", installed().packs, ids=lambda rules: rules.head.name)
def test_few_clean_prescriptions_are_sent_to_a_person(
    rules: Pack, name: str, mixes: dict[str, list[Clean]]
) -> None:
    told = told_of(rules, mixes[name])
    assert told["prescriptions"] > 100
    assert told["to_a_person"] <= TO_A_PERSON_MAX, told["by_rule"]
    assert abs(sum(told["verdicts"].values()) - 1) < 0.001


def with_errors(one: Clean) -> Iterator[tuple[str, Clean]]:
    """The same with one error each, of a kind that nobody may pass unseen."""
    first = one.sheet.lines[0]
    known = product(first.product_code)
    assert known is not None
    allergic = one.patient.model_copy(update={"allergies": (known.ingredients[0],)})
    yield "allergy", Clean(one.sheet, allergic, one.history)
    visit = one.sheet.model_copy(update={"first_visit": True})
    yield "first visit", Clean(visit, one.patient, one.history)
    lines = (first.model_copy(update={"days": 200, "quantity": 200}), *one.sheet.lines[1:])
    yield "200 days", Clean(one.sheet.model_copy(update={"lines": lines}), one.patient, one.history)
    twice = (*one.sheet.lines, first) if not known.topical else ()
    if twice:
        sheet = one.sheet.model_copy(update={"lines": twice})
        yield "the same twice", Clean(sheet, one.patient, one.history)


def test_the_same_prescriptions_with_an_error_are_stopped(mixes: dict[str, list[Clean]]) -> None:
    stopped, count = Counter[str](), Counter[str]()
    for one in mixes["clinic"][:150]:
        for error, wrong in with_errors(one):
            count[error] += 1
            stopped[error] += asked(pack(), wrong).kind is not Kind.PASS
    assert len(count) == 4
    for error, number in count.items():
        assert stopped[error] >= STOPPED_MIN * number, error


def test_the_same_seed_draws_the_same_prescriptions() -> None:
    assert list(clinic.clean(20, SEED)) == list(clinic.clean(20, SEED))
    assert list(clinic.clean(20, SEED)) != list(clinic.clean(20, SEED + 1))


def shares(table: object, where: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """All tables of the mix that state a figure, with the place where they stand."""
    if isinstance(table, list):
        for number, each in enumerate(table):
            yield from shares(each, f"{where}.{number}")
    elif isinstance(table, dict):
        if {"share", "treated", "weight"} & table.keys() and not {"lines", "ill"} & table.keys():
            yield where, table
        for key, each in table.items():
            if key != "regimens":
                yield from shares(each, f"{where}.{key}")


def test_every_prevalence_has_a_source_or_says_that_it_is_assumed() -> None:
    stated = dict(shares(dict(mix())))
    assert len(stated) > 20
    for where, table in stated.items():
        assert table["standing"] in ("read", "assumed"), where
        assert table["standing"] == "assumed" or table["source"], where
