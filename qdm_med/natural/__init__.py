"""The natural-image track of the paper: photographs through a VQGAN, over the same networks, diffusion, fusion and trainer."""
