"""When to stop: the recall certificate, and the forecast of ways to label."""
