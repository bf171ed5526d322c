"""Measures of a slice: figures of merit, fidelity, cost."""
