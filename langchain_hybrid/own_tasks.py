"""Tools do tasks of their own: what the user asked of an agent is not what its tools ask of models.

A sub-agent is a tool of the agent above it. Where the user's question is stated around that one, as
`with_routing_query` does, the statement ends where a tool begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import ensure_config, merge_configs

from shared_router.context import leave_query, return_to_query

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from shared_router.records import RoutingQuery


class OwnTasks(BaseCallbackHandler):
    """Takes the user's question away while a tool runs; tools that run at once do not meet."""

    run_inline = True
    """In the tool's own context."""
    ignore_llm = ignore_chat_model = ignore_chain = ignore_retriever = ignore_custom_event = True

    def __init__(self) -> None:
        self._left: dict[UUID, RoutingQuery | None] = {}

    def on_tool_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Leave the question."""
        self._left[run_id] = leave_query()

    def on_tool_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Return to it."""
        return_to_query(self._left.pop(run_id, None))

    def on_tool_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Return to it."""
        return_to_query(self._left.pop(run_id, None))


def with_own_tasks(config: RunnableConfig | None) -> RunnableConfig:
    """Add to a config that tools do tasks of their own."""
    added: RunnableConfig = {"callbacks": [OwnTasks()]}
    return merge_configs(ensure_config(config), added)
