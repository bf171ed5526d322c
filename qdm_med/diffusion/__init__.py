"""Diffusion in latents, with the paper's letters; the network is only a callable."""
