"""The contract of a derived series, stated once more from the standard: rules, and ways to break each."""
