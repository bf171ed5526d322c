"""What a command does with a whole volume: look, estimate, explain, upscale."""
