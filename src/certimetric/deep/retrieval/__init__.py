"""Retrieval of embedding models, clean and under attack."""
