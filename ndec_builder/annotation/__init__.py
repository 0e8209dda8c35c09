"""Pairs to Label Studio and labels back: tasks, one project per annotator and round, agreement, decisions."""
