"""Where candidates come from: base cells, distortions, magnetic states, Metropolis rattling."""
