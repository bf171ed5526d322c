"""High-resolution images to what a worse scanner might have made of them."""
