"""Claim: authorises an order, prices and settles it at its pharmacy, undoes it, closes it."""
