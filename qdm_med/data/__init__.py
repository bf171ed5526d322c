"""Volumes to training pairs: slice stores, degradations, synthetic truth."""
