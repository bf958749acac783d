"""The command line `hybrid-llm`: parse and call only."""

from shared_router.cli.app import main as main
