"""How many complete orders a second, against a bare pipeline of the same hops in the same run."""

from bench.pipeline.command import main

__all__ = ["main"]
