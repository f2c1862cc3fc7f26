"""Baselines that count instead of learning, as sequential models of RecBole."""
