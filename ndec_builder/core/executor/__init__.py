"""Runs a plan of shards, in this process, in others, or on Ray."""
