"""What fine-tuning predicts: the joint outcome of two models, or the paper's label.

A label of 0 or 1 says little of a query; which of two models is right says more, and tells a tie
from a win. For `gap` the encoder therefore learns, per candidate, the joint outcome with the
reference: only the candidate right, only the reference, both, neither. Graded qualities are soft
outcomes: a quality is taken as the probability of being right, after scaling the metric's range
in the training data to [0, 1]. Then `P(only candidate) - P(only reference)`, times that range, is
the gap itself, exactly, in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from shared_router.data.labels import Labels

OUTCOMES = ("only the candidate", "only the reference", "both", "neither")
"""Classes of a joint outcome, in the order of the logits."""


@dataclass(frozen=True)
class Objective:
    """Targets of fine-tuning, and how its logits become a loss and a prediction."""

    targets: NDArray[np.float32]
    """Shape (n, k - 1, c): c = 4 probabilities of joint outcomes, or c = 1 label in [0, 1]."""
    span: float
    """Width of the metric's range in the training data; 1 for labels that are probabilities."""

    @property
    def joint(self) -> bool:
        """Whether joint outcomes are learned, not a label."""
        return bool(self.targets.shape[2] > 1)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compute the mean cross-entropy; both of shape (n, k - 1, c)."""
        import torch

        if self.joint:
            return -(targets * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def predict(self, logits: torch.Tensor) -> torch.Tensor:
        """Turn logits of shape (n, k - 1, c) into labels of shape (n, k - 1), in their units."""
        import torch

        if not self.joint:
            return torch.sigmoid(logits).squeeze(-1)
        shares = torch.softmax(logits, dim=-1)
        return (shares[..., 0] - shares[..., 1]) * self.span

    def labels(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn targets of shape (n, k - 1, c) back into labels of shape (n, k - 1)."""
        if not self.joint:
            return targets[..., 0]
        gaps: NDArray[np.float32] = (targets[..., 0] - targets[..., 1]) * self.span
        return gaps


def make_objective(labels: Labels, quality: NDArray[np.float64]) -> Objective:
    """Choose what to learn.

    Args:
        labels: The labels; for kinds other than `gap` they are the targets, as in the paper.
        quality: Mean quality, shape (n, k), the reference last.

    Returns:
        The objective.

    Source: Hybrid LLM (Ding et al., ICLR 2024), equations 1-3, for kinds other than `gap`.
    """
    if labels.kind != "gap":
        return Objective(labels.values[:, :, None].astype(np.float32), 1.0)
    span = float(np.ptp(quality))
    right = (quality - quality.min()) / span
    # Answers of the two are sampled apart, so that probabilities multiply.
    own, reference = right[:, :-1], right[:, -1:]
    classes = [
        own * (1 - reference),
        (1 - own) * reference,
        own * reference,
        (1 - own) * (1 - reference),
    ]
    return Objective(np.stack(classes, axis=2).astype(np.float32), span)
