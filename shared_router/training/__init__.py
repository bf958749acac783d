"""What makes a scorer."""
