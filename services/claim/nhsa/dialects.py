"""How each province speaks the standard: one row of a table each, no code of its own.

A dialect renames fields, writes numbers, dates and errors in its way, and may sign. Which one an
area speaks is decided by the beginning of its code.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives.hashes import SM3, Hash

CHINA = timezone(timedelta(hours=8))
Fields = dict[str, Any]
Sign = Callable[[bytes], str]


def _sm3(content: bytes) -> str:
    digest = Hash(SM3())
    digest.update(content)
    return base64.b64encode(digest.finalize()).decode()


# By `signtype`. SM3 alone proves that nothing was altered on the way, not who wrote it.
SIGNERS: Mapping[str, Sign] = {"": lambda content: "", "SM3": _sm3}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One province's way. `renames` goes from the standard's names to the province's."""

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
    signtype: str = ""

    def write(self, head: Fields, content: Fields) -> bytes:
        """A request as this province reads it; Decimals are sums, datetimes moments."""
        body = self._out(content)
        signed = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        cainfo = SIGNERS[self.signtype](signed.encode())
        envelope = {**self._out(head), "signtype": self.signtype, "cainfo": cainfo}
        return json.dumps({**envelope, "infver": self.infver, "input": body}).encode()

    def read(self, text: bytes | str) -> Fields:
        """An answer in the standard's form, its `output` a dict. Raises ValueError."""
        found = json.loads(text, parse_float=Decimal)
        if not isinstance(found, dict):
            raise ValueError("an answer is an object")
        output = found.get("output")
        if self.output_as_text and isinstance(output, str) and output:
            found = {**found, "output": json.loads(output, parse_float=Decimal)}
        standard: Fields = self._in(found)
        standard["infcode"] = "0" if found.get("infcode") == self.ok else str(found.get("infcode"))
        return standard

    def refusal(self, err_msg: str) -> tuple[str, str]:
        """Code and text of an error."""
        match = self.error.match(err_msg)
        return (match["code"], match["text"]) if match else ("refused", err_msg)

    def moment(self, text: str) -> datetime:
        """A moment as this province writes it. Raises ValueError."""
        return datetime.strptime(text, self.when).replace(tzinfo=CHINA)

    def _out(self, value: Any) -> Any:
        match value:
            case dict():
                return {self.renames.get(k, k): self._out(v) for k, v in value.items()}
            case list() | tuple():
                return [self._out(item) for item in value]
            case Decimal():
                return float(value) if self.numbers else str(value)
            case datetime():
                return value.astimezone(CHINA).strftime(self.when)
            case _:
                return value

    def _in(self, value: Any) -> Any:
        back = {theirs: ours for ours, theirs in self.renames.items()}
        match value:
            case dict():
                return {back.get(k, k): self._in(v) for k, v in value.items()}
            case list():
                return [self._in(item) for item in value]
            case _:
                return value


# Both provinces are invented; their differences are of kinds that real ones have.
PLAIN = Dialect(
    name="plain",
    path="/mbs/fmi/fsi/api/callFsiService/callService",
    infver="V1.0",
    ok="0",
    error=re.compile(r"(?P<code>\w+)\^(?P<text>.*)", re.DOTALL),
    unclear=frozenset({"-9"}),
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
        "drug_trac_info": "drugtracinfo",
        "med_list_codg": "hilist_code",
    },
    numbers=True,
    output_as_text=True,
    signtype="SM3",
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
