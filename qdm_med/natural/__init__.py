"""Photographs, the paper's other track: a VQGAN, over the same networks, diffusion, fusion and trainer."""
