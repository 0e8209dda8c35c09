"""The operations that make an edited copy, with their parameters recorded."""
