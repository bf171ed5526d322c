"""The paper's denoiser: quadtree, two streams and what they are made of."""
