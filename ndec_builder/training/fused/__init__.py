"""The fused scorer: one probability of "edited copy" for a pair, from descriptors and geometry together."""
