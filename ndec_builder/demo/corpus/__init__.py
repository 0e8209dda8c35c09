"""The corpus of the demo, made from Debian and PyPI packages."""
