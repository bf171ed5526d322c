"""Volumes to training pairs: slice stores and the Real-ESRGAN degradation."""
