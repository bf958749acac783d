"""What a router learns from: queries with measured outcomes, and the labels made of them."""
