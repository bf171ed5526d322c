"""Files of trained networks, each with a card that describes it; the paper's released files, too."""
