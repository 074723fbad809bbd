"""Evidence about thresholds on the distance of embeddings: who is accepted as the same, by models on pictures."""
