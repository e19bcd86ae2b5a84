"""The invariants of the whole system: what must hold whatever failed on the way."""
