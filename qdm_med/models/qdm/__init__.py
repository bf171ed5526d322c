"""Denoiser of the paper: quadtree, two streams and their parts."""
