"""Settings, stores, embedded MongoDB, workers, run and resume."""
