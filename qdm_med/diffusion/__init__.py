"""Residual-shifting diffusion; the network is only a callable."""
