"""Training: one run or a comparison of several, checkpoints, resuming, logs, metadata and hyperparameter search."""

from recbole_llm_interest.activation import activate

activate()
