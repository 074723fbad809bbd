"""Attacks on embeddings."""
