"""The autoencoders whose latents the diffusion works in."""
