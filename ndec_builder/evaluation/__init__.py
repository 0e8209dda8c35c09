"""Metrics, matching, asymmetric scoring, intervals and the report."""
