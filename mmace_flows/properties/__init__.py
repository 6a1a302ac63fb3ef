"""What a trained potential is asked for: Bain path and, later, elastic constants, exchange, anisotropy."""
