"""Certified retrieval."""
