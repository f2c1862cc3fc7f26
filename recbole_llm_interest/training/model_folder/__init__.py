"""Folders of trained models in the Hub's conventions: their files, and how they are found and read."""
