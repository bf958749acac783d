"""What is scored: the question in a message, the turn it belongs to, its task."""
