"""Candidate pairs that other tools found."""
