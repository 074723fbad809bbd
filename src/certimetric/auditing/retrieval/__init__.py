"""Evidence about embedding models on pictures."""
