"""What is measured of a slice: figures of merit, fidelity, cost."""
