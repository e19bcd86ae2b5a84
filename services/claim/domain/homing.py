"""Money that has to come home and is refused: asked for on and on, and laid before people.

The far side may come round by itself, so nothing waits for the people; what it refuses once it is
asked for something that it does not have, they can see in its books.
"""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.claim import Split
from services.claim.domain.notes import Dispute, Disputed, HomeRefused
from services.claim.domain.work import Work

# About half an hour of pauses.
HOME_TRIES_MAX = 8
NOTHING = Split(total_fen=0, fund_fen=0, account_fen=0, cash_fen=0)


def refused_home(kind: str) -> Callable[[Work, Mapping[str, Any]], None]:
    """Asked again, ever more slowly; people are told once it was refused so often in a row."""

    def refused(work: Work, response: Mapping[str, Any]) -> None:
        code = str(response.get("code", ""))
        work.record(HomeRefused(kind=kind, code=code))
        attempt = work.state.attempt
        assert attempt is not None
        if attempt.stuck >= HOME_TRIES_MAX and work.state.dispute is None:
            dispute = Dispute(
                kind=kind,
                ref=work.subject(kind),
                ours=NOTHING,
                theirs=attempt.split or attempt.sold or attempt.former or NOTHING,
                differs=(code,),
                payer_id=attempt.settlement_id,
                opened_at=work.now,
            )
            work.dispute(Disputed(dispute=dispute))
        work.rest(kind)

    return refused
