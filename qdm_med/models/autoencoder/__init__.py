"""Autoencoders, in whose latents the diffusion works."""
