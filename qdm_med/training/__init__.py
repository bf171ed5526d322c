"""Training of the autoencoder and the denoiser."""
