"""LlamaIndex front of hybrid-llm: one trained router inside any index, engine or agent."""

from shared_router.errors import MissingExtraError

try:
    from llamaindex_hybrid.events import RoutingDecisionEvent
    from llamaindex_hybrid.llm import HybridLLM
    from llamaindex_hybrid.replay import ReplayLLM
    from llamaindex_hybrid.spans import QueryTracker, track_queries
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "llama_index":
        raise
    raise MissingExtraError(
        "llamaindex_hybrid needs llama-index-core", ["hybrid-llm[llamaindex]"]
    ) from error

__all__ = ["HybridLLM", "QueryTracker", "ReplayLLM", "RoutingDecisionEvent", "track_queries"]
