"""What is published is what the models say, and what was published stays readable."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError
from pydantic_core import from_json

from schemas import flow
from schemas.envelope import attributes_of, body_of, headers_of
from schemas.message import Command, Event
from schemas.prescription import (
    ClinicalOrder,
    ClinicalPatient,
    PrescribedLine,
    PrescriptionSheet,
    SheetInput,
)
from schemas.publish import documents, files
from schemas.registry import MODELS, parse
from services.commands import contract

NAMES = sorted(documents.name_of(model) for model in MODELS.values())
SCHEMAS = documents.all_schemas()
SAMPLES = sorted(path.stem for path in (files.ROOT / "golden").glob("*.json"))
# Fields of a released sample that today's model has dropped on purpose: name → paths.
DROPPED: dict[str, frozenset[str]] = {}
# Optional fields that came after the sample was frozen: name → fields.
GREW: dict[str, frozenset[str]] = {
    "claim.AnswerAsk.v1": frozenset({"voucher_token"}),
    "claim.DecideDispute.v1": frozenset({"person"}),
    "review.DecideCase.v1": frozenset({"seen", "signature"}),
    "review.EscalateCase.v1": frozenset({"signature"}),
    "review.ReviewApproved.v1": frozenset({"acts"}),
    "review.ReviewRejected.v1": frozenset({"acts"}),
    "review.TakeCase.v1": frozenset({"title"}),
    "delivery.ParcelSealed.v1": frozenset({"token_sha256"}),
    "delivery.HandOver.v1": frozenset({"refused"}),
    "delivery.ParcelDelivered.v1": frozenset({"refused_lines", "courier_tenant", "at_counter"}),
    "delivery.ParcelReturned.v1": frozenset({"courier_tenant"}),
    "delivery.PharmacyReviewed.v1": frozenset({"token_sha256"}),
    "dispatch.ShortageRegistered.v1": frozenset({"registration_id", "apart"}),
    "prescription.SubmitOrder.v1": frozenset({"registration_id"}),
    "network.CityConfigured.v1": frozenset({"rules", "factors"}),
    "network.ConfigureCity.v1": frozenset({"rules"}),
    "network.PutPharmacy.v1": frozenset({"controlled", "duties"}),
}


def test_the_committed_files_are_a_fresh_generation() -> None:
    assert files.stale_files() == [], "run ./yaoda contract"


def test_a_model_that_changed_makes_the_check_fail(tmp_path: Path) -> None:
    files.write(tmp_path)
    assert files.stale_files(tmp_path) == []
    edited = tmp_path / "json" / "claim.OrderClosed.v1.json"
    edited.write_text(edited.read_text().replace("exhausted", "tired"))
    (tmp_path / "json" / "claim.Forgotten.v1.json").write_text("{}")
    assert files.stale_files(tmp_path) == [
        "json/claim.Forgotten.v1.json",
        "json/claim.OrderClosed.v1.json",
    ]
    files.write(tmp_path)
    assert files.stale_files(tmp_path) == []


def test_every_message_has_a_sample_and_every_sample_is_known() -> None:
    assert set(SAMPLES) >= set(NAMES)
    retired = set(SAMPLES) - set(NAMES)
    assert {name for name in retired if not files.is_upcast(name)} == set()


def test_a_sample_is_never_overwritten(tmp_path: Path) -> None:
    files.write(tmp_path)
    frozen = tmp_path / "golden" / "claim.OrderClosed.v1.json"
    frozen.write_text("{}\n")
    assert files.write(tmp_path) == []
    assert frozen.read_text() == "{}\n"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_read_and_nothing_is_lost(name: str) -> None:
    sample = files.sample(name)
    headers = [(key, value.encode()) for key, value in sample["headers"].items()]
    attributes = attributes_of(headers)
    written = MODELS.get((attributes.type, attributes.version))
    assert files.is_upcast(name) if written is None else documents.name_of(written) == name
    message = parse(attributes.type, attributes.version, _json(sample["body"]))
    assert dict(headers_of(attributes)) == dict(headers)
    assert _lost(sample["body"], _plain(message)) - DROPPED.get(name, frozenset()) == set()
    if isinstance(message, Event):
        assert attributes.subject == str(message.key())
        assert attributes.attempt == getattr(message, "attempt", None)


@pytest.mark.parametrize("name", sorted(set(SAMPLES) & set(NAMES)))
def test_a_sample_fits_its_schema(name: str) -> None:
    schema = SCHEMAS[name]
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    body = files.sample(name)["body"]
    assert [error.message for error in validator.iter_errors(body)] == []
    filled = body.keys() | GREW.get(name, frozenset())
    assert filled == schema["properties"].keys(), "a sample fills every field"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_fact_may_grow_a_command_is_taken_by_the_letter(name: str) -> None:
    schema = SCHEMAS[name]
    parts = [part for part in (schema, *schema.get("$defs", {}).values()) if "properties" in part]
    strict = {part.get("additionalProperties") is False for part in parts}
    assert strict == {schema["x-kind"] == "command"}


def test_a_part_of_a_command_is_laid_into_a_fact_as_the_plain_part() -> None:
    body = files.sample("prescription.CorrectPrescription.v1")["body"]["prescription"]
    given = SheetInput.model_validate(body)
    patient = {
        "birth_date": "1961-04-12",
        "sex": "9",
        "guardian_present": False,
        "specialist_present": False,
        "allergies": (),
        "person_ref": "ref",
    }
    laid = ClinicalOrder(patient=ClinicalPatient(**patient), prescriptions=(given,))
    (sheet,) = laid.prescriptions
    assert sheet == PrescriptionSheet.model_validate(body)
    assert {type(line) for line in sheet.lines} == {PrescribedLine}


def test_a_reader_passes_over_what_a_later_sheet_says_beside() -> None:
    body = files.sample("prescription.CorrectPrescription.v1")["body"]["prescription"]
    line = {**body["lines"][0], "later": "field"}
    later = {**body, "lines": [line], "later": 1}
    assert PrescriptionSheet.model_validate(later) == PrescriptionSheet.model_validate(body)
    with pytest.raises(ValidationError, match="later") as refused:
        SheetInput.model_validate(later)
    places = {error["loc"] for error in refused.value.errors()}
    assert places >= {("later",), ("lines", 0, "later")}


def test_what_is_sealed_has_a_schema_too() -> None:
    sealed = {name for name in SCHEMAS if name.startswith("sealed.")}
    assert sealed == {"sealed.Address", "sealed.ClinicalOrder", "sealed.Voucher"}


def test_a_loss_would_be_seen() -> None:
    assert _lost({"a": 1, "b": [{"c": 2}]}, {"a": 1, "b": [{"d": 2}], "e": 3}) == {"b.0.c"}
    assert _lost({"a": 1}, {"a": 2}) == {"a"}
    assert _lost({"a": [1, 2]}, {"a": [1]}) == {"a.1"}


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    """The committed document."""
    document: dict[str, Any] = yaml.safe_load((files.ROOT / "asyncapi.yaml").read_text())
    return document


def test_every_reference_of_the_asyncapi_document_leads_somewhere(asyncapi: dict[str, Any]) -> None:
    references = list(_references(asyncapi))
    assert len(references) > 300
    assert [name for name in references if not _leads_somewhere(asyncapi, name)] == []
    assert not _leads_somewhere(asyncapi, "#/channels/claim.intake")


def test_the_channels_are_the_topics(asyncapi: dict[str, Any]) -> None:
    channels = asyncapi["channels"]
    assert set(channels) - {"partner"} == set(flow.topics())
    assert channels["partner"]["address"] == flow.partner_topic("{tenant}")
    for channel in channels.values():
        binding = channel["bindings"]["kafka"]
        assert binding["partitions"] == flow.PARTITIONS
        days = binding["topicConfiguration"]["retention.ms"] / 86_400_000
        assert days == flow.RETENTION_DAYS


@pytest.mark.parametrize("service", flow.SERVICES)
def test_the_operations_of_a_service_are_its_routes(asyncapi: dict[str, Any], service: str) -> None:
    operations = asyncapi["operations"]
    sent = _named(operations, f"{service}.send.")
    assert sent == {documents.name_of(event) for event in flow.emitted(service)}
    received = _named(operations, f"{service}.receive.")
    wanted = {documents.name_of(event) for event in flow.consumed(service)}
    assert received == wanted | {documents.name_of(c) for c in flow.INTAKE.get(service, ())}
    topics = {key.split(".receive.")[1] for key in operations if key.startswith(f"{service}.rec")}
    assert topics == set(flow.inputs(service))


def test_the_headers_of_a_sample_are_the_headers_described(asyncapi: dict[str, Any]) -> None:
    described = asyncapi["components"]["messageTraits"]["cloudEvent"]["headers"]
    for name in NAMES:
        jsonschema.validate(files.sample(name)["headers"], described)
        assert files.sample(name)["headers"].keys() <= described["properties"].keys()


def test_the_command_says_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path)
    files.freeze(tmp_path)
    monkeypatch.setattr(files.stale_files, "__defaults__", (tmp_path,))
    monkeypatch.setattr(files.incompatible, "__defaults__", (tmp_path,))
    assert contract.main(["--check"]) == 0
    (tmp_path / "asyncapi.yaml").write_text("")
    assert contract.main(["--check"]) == 1
    assert capsys.readouterr().out == "stale: schemas/asyncapi.yaml\n"


def test_the_command_refuses_what_would_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path)
    files.freeze(tmp_path)
    released = tmp_path / "json" / "baseline" / "claim.OrderClosed.v1" / "0001.json"
    released.write_text(released.read_text().replace('"attempt"', '"attempt_number"'))
    monkeypatch.setattr(files.stale_files, "__defaults__", (tmp_path,))
    monkeypatch.setattr(files.incompatible, "__defaults__", (tmp_path,))
    assert contract.main(["--check"]) == 1
    assert "claim.OrderClosed.v1 .attempt: today's reader: is needed" in capsys.readouterr().err


def _json(body: Any) -> bytes:
    return documents.text_of(body).encode()


def _plain(message: Event | Command) -> Any:
    return from_json(body_of(message))


def _lost(before: Any, after: Any, path: str = "") -> set[str]:
    """Paths of `before` that are gone or different in `after`; what is new is no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(key, value, after.get(key)) for key, value in before.items()]
    elif isinstance(before, list) and isinstance(after, list):
        padded = [*after, *[None] * (len(before) - len(after))]
        pairs = [(str(at), value, padded[at]) for at, value in enumerate(before)]
    else:
        return set() if before == after else {path}
    below = [_lost(value, other, f"{path}.{key}".lstrip(".")) for key, value, other in pairs]
    return set().union(*below)


def _references(part: Any) -> Any:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _references(item)


def _leads_somewhere(document: dict[str, Any], reference: str) -> bool:
    file, _, path = reference.partition("#/")
    if file:
        return (files.ROOT / file).is_file() and not path
    part: Any = document
    for name in path.split("/"):
        if name not in part:
            return False
        part = part[name]
    return True


def _named(operations: dict[str, Any], prefix: str) -> set[str]:
    found = [value["messages"] for key, value in operations.items() if key.startswith(prefix)]
    return {item["$ref"].rpartition("/")[2] for messages in found for item in messages}
