"""Training: data, loss, augmentation, loop, metrics."""
