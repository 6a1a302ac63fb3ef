"""Spin physics on a potential: relaxation of moments, Monte Carlo, exchange."""
