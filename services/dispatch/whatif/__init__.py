"""Whole days of one city in memory, under simulated time, by the same rules as the live tick."""
