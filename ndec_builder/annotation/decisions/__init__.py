"""From labels to decisions: agreement, weighted decisions, the audit, auto-clearing."""
