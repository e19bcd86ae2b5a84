"""A live system under a seeded nemesis: what strikes when, what it does, and what must hold."""
