"""What an attacker of embeddings wants: a value to maximise, and whether the goal is reached."""
