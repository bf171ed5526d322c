"""Tensors to tensors: autoencoder, quadtree and the two-stream denoiser."""
