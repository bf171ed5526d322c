"""Runs over a whole volume: look at it, estimate, explain, super-resolve."""
