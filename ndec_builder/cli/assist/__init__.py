"""What helps a person at the terminal: status, doctor, forecasts, next steps."""
