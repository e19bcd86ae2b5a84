"""The promise, the match of an order to a pharmacy, offers, the assignment and their fall-backs."""
