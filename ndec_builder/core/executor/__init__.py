"""Runs a plan of shards in this process, in worker processes, or on Ray."""
