"""Checkpoints and resume states: one safetensors file each, without code, and the reading of former ``.pth`` files."""
