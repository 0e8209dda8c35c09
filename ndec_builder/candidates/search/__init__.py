"""Finds the exact global top pairs, in blocks, with caps."""
