"""One file per peer. See `pdq.py` for a hash, `difpy.py` for a tool that compares a folder by itself."""
