"""Figures about a potential: parity, learning curves, uncertainty, one-body energies. matplotlib is imported on use."""
