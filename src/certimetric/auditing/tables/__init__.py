"""Evidence about metrics on a table."""
