"""The hard rules as versioned data, and the pure functions that apply them to one prescription."""

from services.review.rules.engine import Finding, Kind, Verdict, examine
from services.review.rules.pack import Pack, Rule, pack

__all__ = ["Finding", "Kind", "Pack", "Rule", "Verdict", "examine", "pack"]
