"""The view of an audit of verification."""
