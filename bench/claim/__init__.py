"""How many claims a second are quoted, and priced and settled over HTTP against the bare rate."""

from bench.claim.command import main

__all__ = ["main"]
