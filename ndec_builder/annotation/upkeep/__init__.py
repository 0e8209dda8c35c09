"""Looking after a workspace: check its append-only tables, remove a person's name."""
