"""hybrid-llm: one trained router that sends each query to a small or a large chat model.

The names below are the public API; each is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared_router.context import hybrid_options as hybrid_options
    from shared_router.context import routing_query as routing_query
    from shared_router.data.dataset import RoutingDataset as RoutingDataset
    from shared_router.engine.engine import RoutingEngine as RoutingEngine
    from shared_router.errors import AllCandidatesFailedError as AllCandidatesFailedError
    from shared_router.errors import CallTimeoutError as CallTimeoutError
    from shared_router.errors import HybridRoutingError as HybridRoutingError
    from shared_router.measuring.evaluation import RoutingReport as RoutingReport
    from shared_router.options import Dial as Dial
    from shared_router.records import CallRecord as CallRecord
    from shared_router.records import Candidate as Candidate
    from shared_router.records import RoutingDecision as RoutingDecision
    from shared_router.records import RoutingQuery as RoutingQuery
    from shared_router.records import Usage as Usage
    from shared_router.retrieval import RetrievalFacts as RetrievalFacts
    from shared_router.router.router import Router as Router
    from shared_router.training.finetuning.settings import FineTuning as FineTuning

_HOMES = {
    "AllCandidatesFailedError": "errors",
    "CallRecord": "records",
    "CallTimeoutError": "errors",
    "Candidate": "records",
    "Dial": "options",
    "FineTuning": "training.finetuning.settings",
    "HybridRoutingError": "errors",
    "RetrievalFacts": "retrieval",
    "Router": "router.router",
    "RoutingDataset": "data.dataset",
    "RoutingDecision": "records",
    "RoutingEngine": "engine.engine",
    "RoutingQuery": "records",
    "RoutingReport": "measuring.evaluation",
    "Usage": "records",
    "hybrid_options": "context",
    "routing_query": "context",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hybrid-llm")
    if name not in _HOMES:
        raise AttributeError(f"module 'shared_router' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"shared_router.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__", "__version__"]
