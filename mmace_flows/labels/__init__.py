"""Where energies come from: the engine-neutral label document and its Makers."""
