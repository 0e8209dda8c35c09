"""Manifests: the dataset itself, built from decisions, validated, described and attributed."""
