"""Tables of what the cases add up to: statistics and curves."""
