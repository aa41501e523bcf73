"""Kills at random moments of a search of the formula, and what they leave: `make faults`."""
