"""How the outside world behaves: a typed profile, and draws that depend on nothing but names."""

import hashlib
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

PROFILES = Path(__file__).parent / "profiles"
DEMO = PROFILES / "demo.toml"
Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T")

_NORMAL = NormalDist()
_Z90, _Z99 = _NORMAL.inv_cdf(0.90), _NORMAL.inv_cdf(0.99)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wait(_Part):
    """A lognormal wait in seconds, given by its median and its 90th percentile."""

    median_s: float = Field(ge=0)
    p90_s: float = Field(ge=0)

    def seconds(self, u: float) -> float:
        """The wait at the uniform draw `u`."""
        return lognormal(u, self.median_s, self.p90_s, _Z90)


class OwnReview(Wait):
    """The pharmacy's own pharmacist."""

    gives_back: Share


class PickPack(Wait):
    """Picking and packing."""

    per_extra_line_s: float = Field(ge=0)
    cold_chain_s: float = Field(ge=0)

    def picking(self, u: float, lines: int, cold_chain: bool) -> float:
        """Seconds for so many lines."""
        extra = self.per_extra_line_s * (lines - 1) + self.cold_chain_s * cold_chain
        return self.seconds(u) + extra


class Latency(_Part):
    """A lognormal latency in milliseconds of real time."""

    median_ms: float = Field(ge=0)
    p99_ms: float = Field(ge=0)

    def seconds(self, u: float) -> float:
        """The latency at the uniform draw `u`, in seconds."""
        return lognormal(u, self.median_ms, self.p99_ms, _Z99) / 1000


class Orders(_Part):
    """What hospitals send."""

    prescriptions: dict[int, Share]
    lines: dict[int, Share]
    insured: Share
    cold_chain: Share
    tier: dict[str, Share]
    cancel_by_patient: Share
    cancel_within_s: float = Field(default=1800, ge=0, description="of the submission")
    pharmacist_needed: Share
    must_reject: Share


class Pharmacist(_Part):
    """The reviewer."""

    decides: Wait
    approve: Share
    return_to_doctor: Share
    reject: Share


class Doctor(_Part):
    """Who corrects what was returned."""

    corrects: Share
    after: Wait


class Pharmacy(_Part):
    """Shops and their people."""

    stock_per_line: Share
    open_24h: Share
    pharmacist_on_duty: Share
    designated_for_insurance: Share
    capacity_per_10_min: int = Field(ge=1)
    accept_after: Wait
    refuse: Share
    ignore: Share
    accept_too_late: Share
    own_review: OwnReview
    pick_pack: PickPack
    cannot_find_line: Share


class Payer(_Part):
    """The insurer's interface."""

    latency: Latency
    error_5xx: Share
    accepts_then_silent: Share
    declines: Share
    token_expired: Share
    wrong_amounts: Share = Field(default=0, description="of what it prices or settles")
    arrives_twice: Share = Field(default=0, description="of the messages")
    arrives_late: Share = Field(default=0, description="after its sender gave up")
    day_end_cut: Share = Field(default=0, description="of the last hour, counted on the next day")


class Patient(_Part):
    """Who waits for the parcel."""

    consent_at_submission: Share
    self_pay_consent: Share
    share_above_consent: Share
    answers_after: Wait
    answers_at_all: Share
    says_yes: Share
    pays_share: Share
    collects: Share = Field(default=0, description="of who agrees and may also be delivered to")
    stays_away: Share = Field(default=0, description="of who agreed to collect")


class Courier(_Part):
    """Who carries it."""

    speed_kmh: dict[str, float]
    detour: float = Field(ge=1)
    haste: float = Field(
        default=1, gt=0, description="times quicker than in life, but for hand_over"
    )
    hand_over: Wait
    not_at_home: Share
    refused_at_door: Share
    lost_after_pick_up: Share
    cold_chain_breach: Share
    refuses_a_drug: Share = Field(default=0, description="of the parcels that are handed over")


class Misbehave(_Part):
    """Faults on demand, beyond those of daily life; none by default."""

    accept_twice: Share = 0
    fall_silent: Share = Field(default=0, description="share of assignments never heard of again")
    answer_late_s: float = Field(default=0, ge=0, description="added to each pharmacy's answer")
    dawdle: Share = Field(default=0, description="share of rides that take `dawdle_s` longer")
    dawdle_s: float = Field(default=0, ge=0)


class Profile(_Part):
    """One profile. With `waits` = "none" everybody answers at once and nothing breaks."""

    name: str
    waits: Literal["drawn", "none"] = "drawn"
    orders: Orders
    pharmacist: Pharmacist
    doctor: Doctor
    pharmacy: Pharmacy
    payer: Payer
    patient: Patient
    courier: Courier
    misbehave: Misbehave = Misbehave()

    @property
    def instant(self) -> bool:
        """Nobody takes any time, couriers included."""
        return self.waits == "none"


class ProfileError(ValueError):
    """A profile that cannot be read; the text names the file and the key."""


def load(path: Path | str) -> Profile:
    """Read a profile and what it is based on. Raises ProfileError."""
    try:
        data = _read(Path(path), seen=())
        return Profile.model_validate(_at_once(data) if data.get("waits") == "none" else data)
    except (OSError, ValueError) as error:
        raise ProfileError(f"profile {path}: {error}") from error


def draw(seed: int, *what: object) -> float:
    """A number in [0, 1) that depends on the seed and the names alone."""
    text = "\x1f".join(str(part) for part in (seed, *what))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def choose(u: float, shares: Mapping[T, float]) -> T:
    """The option that the uniform draw `u` falls on; shares are weighed by their sum."""
    left = u * sum(shares.values())
    for option, share in shares.items():
        left -= share
        if left < 0:
            return option
    return list(shares)[-1]


def lognormal(u: float, median: float, upper: float, z: float = _Z90) -> float:
    """The value at `u` of a lognormal with this median, whose quantile at `z` is `upper`."""
    if median <= 0:
        return 0.0
    sigma = math.log(max(upper, median) / median) / z
    return median * math.exp(sigma * _NORMAL.inv_cdf(min(max(u, 1e-9), 1 - 1e-9)))


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ValueError("is based on itself")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    base = data.pop("base", None)
    if base is None:
        return data
    beside = path.with_name(f"{base}.toml")
    found = beside if beside.exists() else PROFILES / beside.name
    return _over(_read(found, (*seen, path)), data)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged, their keys replaced: a share table is never mixed from two files."""
    merged = dict(below)
    for name, value in above.items():
        old = below.get(name)
        merged[name] = {**old, **value} if isinstance(old, dict) else value
    return merged


def _at_once(data: dict[str, Any]) -> dict[str, Any]:
    """No waits, no faults, no cancellations, nobody away."""
    calm = {name: _still(part) for name, part in data.items()}
    calm["orders"]["cancel_by_patient"] = 0.0
    calm["payer"] |= {"error_5xx": 0.0, "accepts_then_silent": 0.0, "token_expired": 0.0}
    calm["courier"] |= {"not_at_home": 0.0, "lost_after_pick_up": 0.0, "cold_chain_breach": 0.0}
    return calm


def _still(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {
        key: 0.0 if key.endswith(("_s", "_ms")) else _still(value) for key, value in part.items()
    }
