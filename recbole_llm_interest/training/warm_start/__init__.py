"""Trainings that start from the weights of a trained model, also of another data set or of other items."""
