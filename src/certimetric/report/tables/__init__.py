"""The view of an audit of metrics on a table."""
