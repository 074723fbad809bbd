"""Evidence about embeddings that were computed elsewhere."""
