"""The complete workflow on pictures from packages, with known truth."""
