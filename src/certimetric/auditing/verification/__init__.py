"""Evidence about thresholds: who is accepted as the same, by metrics on a table."""
