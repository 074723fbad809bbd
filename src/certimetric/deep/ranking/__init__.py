"""How embeddings are compared and ranked."""
