"""The ASL trainer: losses, views, the loop, checkpoints."""
