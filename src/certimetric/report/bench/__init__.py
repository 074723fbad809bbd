"""The view of a benchmark."""
