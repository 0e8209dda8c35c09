"""The exact global top pairs, in blocks, with caps."""
