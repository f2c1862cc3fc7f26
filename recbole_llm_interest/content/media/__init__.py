"""Reads image and audio files of untrusted origin."""

#: counts changes in what is read or rejected; content that an earlier one rejected is tried again
READER_VERSION = "2"
