"""Evaluation: ranks and metrics of tested events, results of runs, comparison tables and significance tests."""

from recbole_llm_interest.activation import activate

activate()
