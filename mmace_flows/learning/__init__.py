"""Data sets, training jobs, the active-learning loop and its LoopState."""
