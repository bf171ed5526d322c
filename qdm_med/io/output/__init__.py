"""Where an output grows, and how it appears whole."""
