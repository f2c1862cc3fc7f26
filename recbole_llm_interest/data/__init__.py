"""RecBole's data set and data loader, as this model needs them."""
