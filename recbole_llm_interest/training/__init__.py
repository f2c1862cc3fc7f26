"""One run: configuration, trainer, checkpoints, resuming, and what is recorded of it."""
