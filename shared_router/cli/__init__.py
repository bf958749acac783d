"""The command line `hybrid-llm`: parse and call only."""
