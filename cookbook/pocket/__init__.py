"""The pocket pair: two language models small enough to travel with the repository."""
