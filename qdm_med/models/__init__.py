"""Networks, from tensors to tensors: autoencoder, quadtree and the two-stream denoiser."""
