"""Candidates: the most similar pairs of pool and reference images, for people to decide."""
