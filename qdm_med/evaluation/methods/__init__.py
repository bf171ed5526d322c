"""Methods that benchmarks compare: one file each, one interface."""
