"""Comparing models: what each run gave, and the table that sets the runs side by side."""
