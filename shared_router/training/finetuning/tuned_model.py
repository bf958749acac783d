"""The network that is fine-tuned: an encoder, its pooled embedding, and a head of logits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.training.encoder import mean_pooled

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from shared_router.training.finetuning.joint_outcomes import Objective
    from shared_router.training.finetuning.settings import FineTuning

FEATURE_LIMIT = 5.0
"""Standardised features are cut here: an odd query must not outvote the text."""


def tuned_model(
    encoder: Any, features: NDArray[np.float32], objective: Objective, settings: FineTuning
) -> torch.nn.Module:
    """Build the network.

    Args:
        encoder: A transformers encoder; it is changed in place.
        features: Raw features of the training queries, for their mean and spread.
        objective: What is predicted.
        settings: Dropout and frozen layers.

    Returns:
        A module from tokens and features to `loss` (where labels are given) and `logits` of
        shape (n, k - 1, c); its `export_form` gives label and embedding instead.
    """
    import torch

    columns, classes = objective.targets.shape[1:]
    spread = features.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-6)
    frozen = freeze(encoder, settings.frozen_layers)

    class TunedModel(torch.nn.Module):
        mean: torch.Tensor
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.pooled = mean_pooled(encoder)
            self.dropout = torch.nn.Dropout(settings.dropout)
            self.head = torch.nn.Linear(
                encoder.config.hidden_size + features.shape[1], columns * classes
            )
            torch.nn.init.normal_(self.head.weight, std=0.02)
            torch.nn.init.zeros_(self.head.bias)
            self.register_buffer("mean", torch.from_numpy(features.mean(axis=0)))
            self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            for module in frozen:
                module.eval()  # no dropout where nothing is learned
            return self

        def logits(self, embedding: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            # A vector of unit length has small entries; these have a mean square of 1.
            widened = embedding.float() * encoder.config.hidden_size**0.5
            scaled = ((features - self.mean) * self.scale).clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
            joined = torch.cat([self.dropout(widened), scaled], dim=1)
            logits: torch.Tensor = self.head(joined).unflatten(1, (columns, classes))
            return logits

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            features: torch.Tensor,
            labels: torch.Tensor | None = None,
        ) -> dict[str, torch.Tensor]:
            logits = self.logits(self.pooled(input_ids, attention_mask), features)
            if labels is None:
                return {"logits": logits}
            return {"loss": objective.loss(logits.float(), labels), "logits": logits}

        def export_form(self) -> torch.nn.Module:
            """Return a module from tokens and features to embedding and label."""
            return _ExportForm(self)

    class _ExportForm(torch.nn.Module):
        def __init__(self, inner: TunedModel) -> None:
            super().__init__()
            self.inner = inner

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, features: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            embedding = self.inner.pooled(input_ids, attention_mask)
            return embedding, objective.predict(self.inner.logits(embedding, features))

    return TunedModel()


def layers_of(encoder: torch.nn.Module) -> tuple[str, Any]:
    """Find an encoder's stack of layers: its longest list of modules.

    Returns:
        The list's name, and the list; an empty name and list where there is none.
    """
    import torch

    found = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.ModuleList)
    ]
    return max(found, key=lambda pair: len(pair[1]), default=("", torch.nn.ModuleList()))


def freeze(encoder: torch.nn.Module, layers: int | None) -> list[torch.nn.Module]:
    """Stop the lowest layers, the embeddings below them, and an unused pooler from learning.

    Args:
        encoder: A transformers encoder.
        layers: How many layers; half of them where `None`, nothing at all where 0.

    Returns:
        The modules that stay as they are.
    """
    _, stack = layers_of(encoder)
    count = len(stack) // 2 if layers is None else min(layers, len(stack))
    frozen = [module for name, module in encoder.named_children() if name == "pooler"]
    if count:
        frozen += [m for name, m in encoder.named_children() if "embeddings" in name]
        frozen += list(stack[:count])
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def parameter_groups(model: torch.nn.Module, settings: FineTuning) -> list[dict[str, Any]]:
    """Group parameters by depth, each with the rate of its layer.

    Biases and norms have no weight decay, as usual.
    """
    name, stack = layers_of(model)
    groups: dict[tuple[float, float], list[Any]] = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = settings.learning_rate * _relative_rate(key, name, len(stack), settings)
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": r, "weight_decay": d} for (r, d), p in groups.items()]


def _relative_rate(key: str, stack: str, depth: int, settings: FineTuning) -> float:
    if key.startswith("head."):
        return settings.head_rate
    numbered = re.match(re.escape(stack) + r"\.(\d+)\.", key)
    if numbered:
        return settings.layer_decay ** (depth - 1 - int(numbered[1]))
    return settings.layer_decay**depth if "embeddings" in key else 1.0
