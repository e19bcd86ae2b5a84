"""The desk's policy, a part of each pack: who may decide, when, and what passes unseen."""

from datetime import datetime, time, timedelta
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.values import CHINA

# NHSA codes of pharmacists' titles.
TITLES = {
    "1": "licensed pharmacist 执业药师",
    "2.1": "chief pharmacist 主任药师",
    "2.2": "associate chief pharmacist 副主任药师",
    "2.3": "pharmacist-in-charge 主管药师",
    "2.4": "pharmacist 药师",
    "2.5": "assistant pharmacist 药士",
}
# 处方管理办法 art. 31: an assistant may dispense but not review. No pack can allow it.
ASSISTANT = "2.5"


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pool(_Policy):
    """Reviewers who help out at these hours in China; `ends` before `starts` runs over midnight."""

    name: str = Field(min_length=1)
    starts: time
    ends: time
    reviewers: tuple[str, ...] = Field(min_length=1, description="tenants by name or id")

    def works(self, now: datetime) -> bool:
        """Whether it sits at the desk; equal hours mean all day."""
        clock = now.astimezone(CHINA).time()
        if self.starts < self.ends:
            return self.starts <= clock < self.ends
        return clock >= self.starts or clock < self.ends


class Timeout(_Policy):
    """What becomes of a case that nobody decides: open to every pool, or rejected. Never passed."""

    minutes: int = Field(gt=0)
    then: Literal["pool", "reject"]


class Desk(_Policy):
    """One place's desk; what a pack does not say holds as it stands here."""

    auto_pass: bool = Field(default=False, description="what the rules clear passes unseen")
    titles: tuple[str, ...] = ("1", "2.1", "2.2", "2.3", "2.4")
    senior: tuple[str, ...] = ("2.1", "2.2", "2.3")
    roster: dict[str, str] = Field(default={}, description="licence → title, as somebody verified")
    only_roster: bool = False
    signed_acts: bool = Field(default=False, description="only with a signature that is proved")
    reviewers: tuple[str, ...] = Field(default=(), description="the home desk; empty: every one")
    pools: tuple[Pool, ...] = ()
    second: tuple[str, ...] = Field(default=(), description="rules that two pharmacists must pass")
    promise_minutes: dict[str, int] = {"30": 30, "60": 60, "emergency": 45, "citywide": 240}
    decide_minutes: dict[str, int] = {"30": 5, "60": 10, "emergency": 3, "citywide": 30}
    work_minutes: int = Field(default=1, ge=0, description="what one decision takes")
    timeout: Timeout | None = None

    @field_validator("titles", "senior")
    @classmethod
    def _known(cls, titles: tuple[str, ...]) -> tuple[str, ...]:
        if ASSISTANT in titles:
            raise ValueError(f"{ASSISTANT} is an assistant pharmacist, who may not review")
        if unknown := sorted(set(titles) - TITLES.keys()):
            raise ValueError(f"{', '.join(unknown)} is no title of a pharmacist")
        return titles

    def admits(self, name: str, tenant_id: UUID, since: datetime | None, now: datetime) -> bool:
        """Whether this tenant may take what has waited since then."""
        names = {name, str(tenant_id)}
        if not self.reviewers or names & set(self.reviewers):
            return True
        opened = self._opened(since, now)
        return any(
            names & set(pool.reviewers) and (opened or pool.works(now)) for pool in self.pools
        )

    def promise_at(self, tier: str, start: datetime) -> datetime:
        """When the parcel is to be at the door, counted from the patient's submission."""
        return start + timedelta(minutes=self.promise_minutes.get(tier, 60))

    def decide_by(self, tier: str, since: datetime) -> datetime:
        """When the desk must have decided what lies there since then."""
        return since + timedelta(minutes=self.decide_minutes.get(tier, 10))

    @property
    def work(self) -> timedelta:
        """What one decision takes: taken later than this before its time, it is late."""
        return timedelta(minutes=self.work_minutes)

    @property
    def rejects_after(self) -> timedelta | None:
        """After this wait nobody decides any more; None where it never ends so."""
        timeout = self.timeout
        return _length(timeout) if timeout is not None and timeout.then == "reject" else None

    def _opened(self, since: datetime | None, now: datetime) -> bool:
        timeout = self.timeout
        if timeout is None or timeout.then != "pool" or since is None:
            return False
        return now >= since + _length(timeout)


def _length(timeout: Timeout) -> timedelta:
    return timedelta(minutes=timeout.minutes)
