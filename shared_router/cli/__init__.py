"""The command line `hybrid-llm`: parse and call only."""

from shared_router.cli.commands import app as app
from shared_router.cli.commands import main as main
