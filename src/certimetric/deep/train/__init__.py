"""Robust training."""
