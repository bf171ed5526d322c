"""Every CT series of a tree, on one machine or many: planned, super-resolved, watched, reported and verified."""
