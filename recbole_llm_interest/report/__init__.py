"""The HTML report on a comparison and a trained model: curves, metrics, modality weights, interests, an item map."""
