"""The garbage collector of a process that runs for long and makes few cycles."""

import gc

YOUNG_OBJECTS = 20_000


def keep_for_good() -> None:
    """What is loaded stays: the collector need not go through it again and again.

    Nor after every 700 objects: nearly all go by themselves, without any cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def keep_also() -> None:
    """What was built since stays as well, without looking at it: no pause for who runs beside."""
    gc.freeze()
