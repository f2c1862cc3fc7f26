"""The report of a trained model: what it learnt, how it compares, and where one user's interest went."""
