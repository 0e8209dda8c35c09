"""The checks behind `ndec validate`."""
