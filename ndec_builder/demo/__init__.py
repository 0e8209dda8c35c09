"""The whole workflow on pictures from packages, with known truth."""
