"""How long each step may stand still: policy, not law, and all of it in this one place."""

from datetime import timedelta

CONFIRM_WITHIN = timedelta(minutes=10)
SEAL_WITHIN = timedelta(minutes=45)
PICK_UP_WITHIN = timedelta(minutes=60)
