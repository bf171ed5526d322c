"""Runs over a whole volume: look, estimate, explain, upscale."""
