"""Metrics by name, for the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from shared_router.judging.metric import QualityMetric

METRICS = {
    "exact": ("matching", "EXACT"),
    "normalised": ("matching", "NORMALISED"),
    "choice": ("matching", "CHOICE"),
    "numeric": ("matching", "NUMERIC"),
    "code": ("code", "CodePassesTests"),
    "rouge-l": ("overlap", "RougeL"),
    "bleu": ("overlap", "Bleu"),
    "chrf": ("overlap", "Chrf"),
    "bartscore": ("bart", "BartScore"),
    "similarity": ("similarity", "EmbeddingSimilarity"),
}
"""Name to where the metric is; loaded when asked for."""


def metric_named(name: str) -> QualityMetric:
    """Return a metric.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    if name not in METRICS:
        raise ConfigurationError(f"No metric {name!r}; there are {', '.join(METRICS)}.")
    module, attribute = METRICS[name]
    found = getattr(importlib.import_module(f"shared_router.judging.{module}"), attribute)
    return cast("QualityMetric", found() if isinstance(found, type) else found)
