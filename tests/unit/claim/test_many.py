"""However many claims and faults: every fen in our books is in the payer's and the provider's."""

import pytest

from tests.unit.claim.many import FAULTS, market

LONG_CLAIMS, PIECES = 1_000_000, 20


def test_no_fen_is_unexplained_among_many_claims() -> None:
    found = market(150, seed=3, share=0.25)
    assert found.unexplained_fen == 0
    assert set(found.payer.faults) == set(FAULTS)
    assert found.disputes > 0
    assert found.outcomes["delivered"] > 90
    assert found.outcomes["returned"] > 5


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(PIECES))
def test_no_fen_is_unexplained_among_a_million(seed: int) -> None:
    found = market(LONG_CLAIMS // PIECES, seed, share=0.05)
    assert found.unexplained_fen == 0
    assert sum(found.outcomes.values()) == LONG_CLAIMS // PIECES
