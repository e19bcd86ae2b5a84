"""How long each step may stand still and what is tried: policy, not law, all in this one place."""

from datetime import timedelta

CONFIRM_WITHIN = timedelta(minutes=10)
SEAL_WITHIN = timedelta(minutes=45)
PICK_UP_WITHIN = timedelta(minutes=60)
# So many wrong codes at the counter, then none is looked at for so long: nobody can try them all.
WRONG_CODES_MAX = 5
WRONG_CODES_PAUSE = timedelta(minutes=10)
