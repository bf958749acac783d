"""Metrics by name, for the command line."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from shared_router.collecting.specs import ask_model
from shared_router.data.answers import Sampling
from shared_router.errors import ConfigurationError
from shared_router.judging.metric import Clipped
from shared_router.support.extras import need
from shared_router.support.names import nearest

if TYPE_CHECKING:
    from shared_router.judging.metric import QualityMetric

METRICS = {
    "exact": ("match", "EXACT"),
    "normalised": ("match", "NORMALISED"),
    "choice": ("match", "CHOICE"),
    "numeric": ("match", "NUMERIC"),
    "code": ("code", "CodePassesTests"),
    "rouge-l": ("overlap", "RougeL"),
    "bleu": ("overlap", "Bleu"),
    "chrf": ("overlap", "Chrf"),
    "bartscore": ("bart", "BartScore"),
    "similarity": ("similarity", "EmbeddingSimilarity"),
}
"""Name to where the metric is; loaded when asked for."""
NEEDS = {
    "rouge-l": ("judge", "rouge_score"),
    "bleu": ("judge", "sacrebleu"),
    "chrf": ("judge", "sacrebleu"),
    "bartscore": ("train", "torch", "transformers"),
}
"""Name to the extra that a metric needs, and the modules of it."""
OF_A_MODEL = ("bartscore", "similarity")
"""Metrics that take `NAME=MODEL`, a hub name or a folder."""


def metric_named(name: str) -> QualityMetric:
    """Return a metric.

    Args:
        name: One of `METRICS`; `bartscore=MODEL` and `similarity=MODEL` name the model too.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    kind, given, model = name.partition("=")
    if kind not in METRICS or (given and not (model and kind in OF_A_MODEL)):
        near = nearest(kind, METRICS)
        hint = f" Did you mean {near!r}?" if near and near != kind else ""
        raise ConfigurationError(
            f"No metric {name!r}; there are {', '.join(METRICS)}, and "
            f"{', '.join(f'{each}=MODEL' for each in OF_A_MODEL)}.{hint}"
        )
    module, attribute = METRICS[kind]
    found = getattr(importlib.import_module(f"shared_router.judging.{module}"), attribute)
    if model:
        return cast("QualityMetric", found(model))
    return cast("QualityMetric", found() if isinstance(found, type) else found)


@dataclass(frozen=True)
class JudgeSpec:
    """Says which judge to make: a call makes it, here or in another process."""

    told: str = field(repr=False)
    """A metric's name, or `llm=SPEC`; out of reprs, as a SPEC may hold a password."""
    rubric: str | None = field(default=None, kw_only=True)
    """What a judge `llm=SPEC` looks at."""
    price: tuple[float, float] | None = field(default=None, kw_only=True)
    """Dollars per million tokens that a judge `llm=SPEC` reads and writes."""
    clip: tuple[float, float] | None = field(default=None, kw_only=True)
    """What lower and higher scores of a metric become."""

    def __call__(self) -> QualityMetric:
        """Make the judge.

        Raises:
            ConfigurationError: If there is none of that name, or an option is not for it.
        """
        kind, _, spec = self.told.partition("=")
        if kind == "llm" and spec:
            return self._model(spec)
        if self.rubric is not None:
            raise ConfigurationError(f"--rubric is for --judge llm=SPEC; got --judge {self.told}.")
        metric = metric_named(self.told)
        return Clipped(metric, *self.clip) if self.clip else metric

    def check(self) -> None:
        """Check that what the metric needs is installed: it looks for it at its first score.

        Raises:
            MissingExtraError: If something is not; it names all of it.
            ConfigurationError: If its encoder is nowhere.
        """
        kind, _, model = self.told.partition("=")
        if kind in NEEDS:
            extra, *modules = NEEDS[kind]
            need(f"The judge {kind}", extra, *modules)
        elif kind == "similarity":
            from shared_router.training.needs import check_encoder

            check_encoder(f"The judge {kind}", model or "minilm")

    def _model(self, spec: str) -> QualityMetric:
        from shared_router.judging.model_judge import RUBRIC, LLMJudge

        if self.clip:
            raise ConfigurationError(
                "--clip is for metrics without bounds; a judge llm=SPEC scores between 0 and 1."
            )
        text = RUBRIC if self.rubric is None else self.rubric
        ask = ask_model(spec, self.price, Sampling(logprobs=False))
        return LLMJudge(ask, text, model=spec)
