"""How each province speaks the standard: one row of a table each, no code of its own.

A dialect renames fields, writes numbers, dates and errors in its way, and may sign. Which one an
area speaks is decided by the beginning of its code.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from schemas.values import CHINA
from services.claim.nhsa.signing import SM3_DIGEST, UNSIGNED, Profile

Fields = dict[str, Any]


class NotGenuine(ValueError):
    """A signature that is not of what it stands beside."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One province's way.

    `renames` goes from the standard's names to the province's, `infnos` from its numbers, `values`
    from its codes by the standard's name of their field; `addresses` are those of messages that
    have one of their own.
    """

    name: str
    path: str
    infver: str
    ok: Any
    error: re.Pattern[str]
    # Codes that say nothing of the business: nobody knows what became of the message.
    unclear: frozenset[str]
    when: str = "%Y-%m-%d %H:%M:%S"
    renames: Mapping[str, str] = field(default_factory=dict)
    numbers: bool = False
    output_as_text: bool = False
    infnos: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    # What stands in 1101's answer for each digit that is not shown; none: numbers are whole.
    certno_blank: str = ""
    signing: Profile = UNSIGNED
    # The standard's names of this province's fields, and its codes of their values.
    _names: Mapping[str, str] = field(init=False, repr=False)
    _codes: Mapping[str, Mapping[str, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        codes = {name: _backwards(values) for name, values in self.values.items()}
        object.__setattr__(self, "_names", _backwards(self.renames))
        object.__setattr__(self, "_codes", codes)

    def address(self, infno: str) -> str:
        """Where a message of the standard's number goes."""
        return self.addresses.get(infno, self.path)

    def write(self, head: Fields, content: Fields) -> bytes:
        """A request as this province reads it; Decimals are sums, datetimes moments."""
        body = self._out(content)
        number = self.infnos.get(head["infno"], head["infno"])
        envelope = {
            **self._out(head),
            "infno": number,
            "signtype": self.signing.signtype,
            "cainfo": self.signing.sign(_canonical(body)),
        }
        return json.dumps({**envelope, "infver": self.infver, "input": body}).encode()

    def read(self, text: bytes | str) -> Fields:
        """An answer in the standard's form, its `output` a dict. Raises NotGenuine, ValueError."""
        found = self._genuine(text, "output")
        output = found.get("output")
        if self.output_as_text and isinstance(output, str) and output:
            found = {**found, "output": json.loads(output, parse_float=Decimal)}
        standard: Fields = self._in(found)
        standard["infcode"] = "0" if found.get("infcode") == self.ok else str(found.get("infcode"))
        return standard

    def read_request(self, text: bytes | str) -> Fields:
        """What this province sends unasked, in the standard's form. Raises as `read` does."""
        standard: Fields = self._in(self._genuine(text, "input"))
        number = str(standard.get("infno"))
        return {**standard, "infno": _backwards(self.infnos).get(number, number)}

    def _genuine(self, text: bytes | str, block: str) -> Fields:
        found = json.loads(text, parse_float=Decimal)
        if not isinstance(found, dict):
            raise ValueError("a message is an object")
        if self.signing.signtype:
            # As it was written: a sum read as Decimal may be written differently again.
            content = _canonical(json.loads(text).get(block))
            if not self.signing.genuine(content, str(found.get("cainfo", ""))):
                raise NotGenuine("cainfo")
        return found

    def refusal(self, err_msg: str) -> tuple[str, str]:
        """Code and text of an error."""
        match = self.error.match(err_msg)
        return (match["code"], match["text"]) if match else ("refused", err_msg)

    def moment(self, text: str) -> datetime:
        """A moment as this province writes it. Raises ValueError."""
        return datetime.strptime(text, self.when).replace(tzinfo=CHINA)

    def _out(self, value: Any, name: str = "") -> Any:
        match value:
            case str():
                return self.values[name].get(value, value) if name in self.values else value
            case dict():
                return {self.renames.get(k, k): self._out(v, k) for k, v in value.items()}
            case list() | tuple():
                return [self._out(item) for item in value]
            case Decimal():
                return float(value) if self.numbers else str(value)
            case datetime():
                return value.astimezone(CHINA).strftime(self.when)
            case _:
                return value

    def _in(self, value: Any) -> Any:
        if self._names or self._codes:
            return _read(value, "", self._names, self._codes)
        return value


def _canonical(content: Any) -> bytes:
    """What is signed: text as it stands, else JSON with sorted names and no blanks."""
    if isinstance(content, str):
        return content.encode()
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def _backwards(names: Mapping[str, str]) -> Mapping[str, str]:
    return {theirs: ours for ours, theirs in names.items()}


# Both provinces are invented; their differences are of kinds that real ones have.
PLAIN = Dialect(
    name="plain",
    path="/mbs/fmi/fsi/api/callFsiService/callService",
    infver="V1.0",
    ok="0",
    error=re.compile(r"(?P<code>\w+)\^(?P<text>.*)", re.DOTALL),
    unclear=frozenset({"-9"}),
    addresses={
        "D001": "/fixmedins/uploadChk",
        "D002": "/fixmedins/rxFixmedinsSign",
        "D003": "/fixmedins/rxFileUpld",
        "D004": "/fixmedins/rxUndo",
        "D005": "/fixmedins/hospRxDetlQuery",
        "D006": "/fixmedins/rxChkInfoQuery",
        "D007": "/fixmedins/rxSetlInfoQuery",
    },
)
RENAMED = Dialect(
    name="renamed",
    path="/isp/api/ybService",
    infver="1.0.3",
    ok=0,
    error=re.compile(r"\[(?P<code>\w+)\] *(?P<text>.*)", re.DOTALL),
    unclear=frozenset({"500"}),
    when="%Y%m%d%H%M%S",
    renames={
        "psn_cash_pay": "cash_payamt",
        "mdtrtarea_admvs": "mdtrtarea_admdvs",
        "drug_trac_info": "trac_info",
        "med_list_codg": "hilist_code",
    },
    numbers=True,
    output_as_text=True,
    infnos={f"D00{n}": f"710{n}" for n in range(1, 8)},
    values={"rxExraAttrCode": {"99": "03"}},
    certno_blank="*",
    signing=SM3_DIGEST,
)
TABLE: Mapping[str, Dialect] = {
    **{f"99{n}": PLAIN for n in range(5)},
    **{f"99{n}": RENAMED for n in range(5, 10)},
}
DEFAULT = PLAIN


def dialect_of(area: str) -> Dialect:
    """The row whose beginning fits best; the plain standard elsewhere."""
    for length in (6, 4, 3, 2):
        if (found := TABLE.get(area[:length])) is not None:
            return found
    return DEFAULT


def _read(
    value: Any, name: str, names: Mapping[str, str], codes: Mapping[str, Mapping[str, str]]
) -> Any:
    match value:
        case str():
            return codes[name].get(value, value) if name in codes else value
        case dict():
            named = ((names.get(key, key), inner) for key, inner in value.items())
            return {key: _read(inner, key, names, codes) for key, inner in named}
        case list():
            return [_read(item, "", names, codes) for item in value]
        case _:
            return value
