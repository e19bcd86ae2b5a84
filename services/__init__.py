"""The services of Yaoda. The version stands here alone; a clone runs without being installed."""

__version__ = "0.1.0"
