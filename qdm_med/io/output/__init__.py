"""Outputs that grow beside their place and appear whole."""
