"""Searches that are killed at random moments, and checks of what is lost: `make faults`."""
