"""Trains adapters inside an encoder of content, on a data set's own content and training events.

The data flow in one direction: ``events`` reads the training events and ``content`` the content; ``objectives`` are
losses on a batch of histories; ``training`` runs them, validates, and writes the adapter.
"""
