"""Training of the autoencoder, the denoiser and the networks that they are compared with."""
