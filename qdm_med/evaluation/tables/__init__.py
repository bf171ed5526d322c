"""What the cases add up to: statistics, tables and curves."""
