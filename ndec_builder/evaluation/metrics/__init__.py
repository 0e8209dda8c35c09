"""Metrics, intervals and the norm-ratio filter."""
