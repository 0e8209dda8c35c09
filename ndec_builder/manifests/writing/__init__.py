"""What `ndec export` writes, step by step."""
