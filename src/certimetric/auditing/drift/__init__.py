"""New rows against the table that a metric was learned on: whether tomorrow is like today."""
