"""LlamaIndex front of hybrid-llm: one trained router inside any index, engine or agent."""

from llamaindex_hybrid.events import RoutingDecisionEvent
from llamaindex_hybrid.llm import HybridLLM
from llamaindex_hybrid.replay import ReplayLLM
from llamaindex_hybrid.spans import QueryTracker, track_queries

__all__ = ["HybridLLM", "QueryTracker", "ReplayLLM", "RoutingDecisionEvent", "track_queries"]
