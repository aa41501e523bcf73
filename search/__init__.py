"""The search harness around `etarec`."""
