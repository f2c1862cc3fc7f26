"""Reads image and audio files of untrusted origin."""
