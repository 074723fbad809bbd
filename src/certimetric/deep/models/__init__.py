"""Embedding models, and how they are called."""
