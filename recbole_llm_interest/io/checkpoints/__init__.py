"""Reads and writes checkpoints and resume states as safetensors files without code, and reads former ``.pth`` files."""
