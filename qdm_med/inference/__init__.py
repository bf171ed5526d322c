"""Volume to volume: streaming super-resolution in bounded memory."""
