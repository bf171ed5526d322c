"""Tables over all cases: statistics and curves."""
