"""Files of trained networks, each saying itself what it is; the paper's released files, too."""
