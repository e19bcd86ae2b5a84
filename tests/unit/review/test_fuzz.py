"""Damaged prescriptions: nothing crashes, every answer has its form, nothing passes unread."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.kit.spec import NOW
from services.review.check import judged
from services.review.document import CheckAnswer
from tests.unit.prescription.examples import submission_body
from tests.unit.review.examples import clear

Path = tuple[str | int, ...]
SOUND = submission_body(clear())
GONE = object()
JUNK: list[Any] = [GONE, None, {"?": 1}, "§§", -3, [[]], "", 1e300, "9" * 400, True, "\x00"]

# What may be damaged without a word, by the beginning of its path: it is not for the rules to read,
# or something beside it says the same.
SILENT = {
    "order_number",
    "city",
    "tier",
    "delivery",
    "voucher",
    "consent",
    "patient.name",
    "patient.certificate_number",
    "patient.phone",
    "prescriptions.0.prescription_id",
    "prescriptions.0.version",
    # The drug has a code and a name, each diagnosis as well; there are two diagnoses.
    "prescriptions.0.lines.0.product_code",
    "prescriptions.0.lines.0.generic_name",
    "prescriptions.0.diagnoses",
    # Its pack is known from the catalogue.
    "prescriptions.0.lines.0.units_per_pack",
    # Who signed and how is for whoever has the certificates: without them it is said anyway.
    "prescriptions.0.prescriber",
}


def paths(value: Any, so_far: Path = ()) -> Iterator[Path]:
    """Every place in a document."""
    items: dict[Any, Any] = value if isinstance(value, dict) else {}
    items = dict(enumerate(value)) if isinstance(value, list) else items
    for key, inner in items.items():
        yield (*so_far, key)
        yield from paths(inner, (*so_far, key))


PLACES = list(paths(SOUND))


def damaged(*blows: tuple[Path, Any]) -> Any:
    """The sound document with junk at these places, or without them."""
    document = copy.deepcopy(SOUND)
    for path, junk in blows:
        inner: Any = document
        try:
            for key in path[:-1]:
                inner = inner[key]
            if junk is GONE:
                del inner[path[-1]]
            else:
                inner[path[-1]] = junk
        except (KeyError, IndexError, TypeError):
            continue
    return document


def answers(document: Any) -> list[dict[str, Any]]:
    """All answers, each in its published form."""
    given_ = list(judged(document, NOW))
    assert given_, "every document has an answer"
    for answer in given_:
        CheckAnswer.model_validate(json.loads(json.dumps(answer, allow_nan=False)))
    return given_


(BEFORE,) = answers(SOUND)


def silent(path: Path) -> bool:
    name = ".".join(map(str, path))
    return any(name == known or name.startswith(f"{known}.") for known in SILENT)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(PLACES), st.sampled_from(JUNK))
@example(("prescriptions", 0, "lines", 0, "dose"), GONE)
@example(("prescriptions", 0, "lines", 0, "frequency"), "§§")
@example(("patient", "birth_date"), None)
@example(("patient", "sex"), GONE)
@example(("prescriptions", 0, "rx_class"), "§§")
@example(("prescriptions", 0, "rx_class"), GONE)
@example(("prescriptions", 0, "lines", 0, "quantity"), GONE)
@example(("prescriptions", 0, "lines", 0, "quantity"), None)
@example(("prescriptions",), GONE)
def test_what_cannot_be_read_is_said_or_stands_on_the_list(path: Path, junk: Any) -> None:
    document = damaged((path, junk))
    said = answers(document)
    passed = all(answer["verdict"] == "pass" for answer in said)
    words = ("findings", "not_given")
    same = [[answer[word] for word in words] for answer in said] == [[BEFORE[w] for w in words]]
    if passed and same and document != SOUND and not silent(path):
        # The value may be as good as the one before.
        assert junk in (True, 1e300), (path, junk)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(JUNK) | st.text(max_size=8)), max_size=6
    )
)
def test_however_much_is_broken_every_answer_has_its_form(blows: list[tuple[Path, Any]]) -> None:
    said = answers(damaged(*blows))
    for answer in said:
        for finding in answer["findings"]:
            assert all(finding["message"].values())
            assert finding["source"]
            assert answer["verdict"] != "pass" or finding["severity"] == "note"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([("lines",), ("lines", 0), ("lines", 0, "generic_name")]), st.text())
def test_without_a_drug_that_somebody_knows_nothing_passes(where: Path, text: str) -> None:
    sheet: Path = ("prescriptions", 0)
    code: Path = (*sheet, "lines", 0, "product_code")
    for answer in answers(damaged((code, GONE), ((*sheet, *where), f"§{text}"))):
        assert answer["verdict"] != "pass"
