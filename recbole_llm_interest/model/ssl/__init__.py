"""Self-supervised objectives, and the augmented histories that they compare."""
