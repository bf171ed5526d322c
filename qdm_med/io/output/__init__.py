"""Output as it grows, and appears whole."""
