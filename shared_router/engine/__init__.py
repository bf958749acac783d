"""A router at work: bound to models, deciding and driving each call."""
