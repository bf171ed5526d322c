"""CT files to a store of slices, split by patient."""
