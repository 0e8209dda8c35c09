"""From labels to decisions: agreement, weighted votes, the audit, auto-clear."""
