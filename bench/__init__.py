"""Benchmarks, each with its control in the same run; a module has `main(argv) -> int | None`."""
