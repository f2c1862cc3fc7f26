"""Baselines that count instead of learning, as sequential models of RecBole."""

from recbole_llm_interest.activation import activate

activate()
