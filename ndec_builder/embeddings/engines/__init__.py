"""What runs a trunk on a CPU, and the record of it."""
