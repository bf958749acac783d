"""What a router is: features, an encoder, a trained head, and one graph that serves them."""
