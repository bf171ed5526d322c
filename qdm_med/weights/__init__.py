"""The embedded default checkpoint and its model card."""
