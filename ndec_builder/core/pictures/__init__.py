"""Which picture formats are read, and how their files are opened."""
