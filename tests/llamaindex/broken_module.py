"""A user's module that fails on import."""

raise RuntimeError("no model today")
