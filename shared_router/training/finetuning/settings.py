"""How an encoder is fine-tuned, what the loop is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How an encoder is fine-tuned. The defaults suit MiniLM and some thousand queries.

    `FineTuning.paper()` gives those of the paper, for its DeBERTa-v3-large.
    """

    epochs: int = 2
    """Most passes over the training queries; early stopping may end before."""
    batch_size: int = 16
    """Queries per step and device."""
    accumulation: int = 2
    """Steps whose gradients are summed before the weights move."""
    learning_rate: float = 1e-4
    """Rate of the last layer."""
    head_rate: float = 10.0
    """Rate of the fresh head, in multiples of `learning_rate`."""
    layer_decay: float = 0.9
    """Each layer learns at this multiple of the rate of the layer above."""
    frozen_layers: int | None = None
    """Layers, from below, that stay as they were, embeddings included; half of them by default.
    They are shared with the frozen encoder of a blend, so that serving computes them once."""
    weight_decay: float = 0.05
    warmup: float = 0.1
    """Share of the steps in which the rate rises."""
    dropout: float = 0.1
    """Dropout before the head."""
    dev_share: float = 0.1
    """Share of the training queries, cut by a hash of their text, on which training is stopped
    and blended."""
    evaluations: int = 2
    """How often an epoch is measured on the dev fold, and a checkpoint kept."""
    patience: int = 3
    """Measurements without improvement after which training stops."""
    blend: bool = True
    """Whether heads on the frozen encoder have a say; their weight is found on the dev fold.
    Without them a router tells no tasks, and a task label moves no score."""
    precision: str = "auto"
    """`float32`, `bfloat16`, or `auto`: bfloat16 where the device computes it natively."""
    checkpoints: str | None = None
    """Folder of checkpoints; one in the cache, named after data and settings, by default. The
    same training started again goes on from the last one. It is removed at the end."""

    @classmethod
    def paper(cls, **changes: Any) -> FineTuning:
        """Return the paper's recipe: five epochs, all layers, no blend."""
        recipe: dict[str, Any] = {
            "epochs": 5,
            "batch_size": 8,
            "accumulation": 4,
            "learning_rate": 1e-5,
            "frozen_layers": 0,
            "evaluations": 1,
            "patience": 5,
            "blend": False,
        }
        return cls(**(recipe | changes))

    def __post_init__(self) -> None:
        least_one = ("epochs", "batch_size", "accumulation", "evaluations", "patience")
        for name in least_one:
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "head_rate", "layer_decay"):
            _check(name, getattr(self, name), getattr(self, name) > 0, "greater than 0")
        _check("dev_share", self.dev_share, 0 < self.dev_share < 1, "between 0 and 1")
        for name in ("warmup", "dropout"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < 1, "in [0, 1)")
        _check("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        frozen = self.frozen_layers
        _check("frozen_layers", frozen, frozen is None or frozen >= 0, "at least 0")
        known = self.precision in ("auto", "float32", "bfloat16")
        _check("precision", self.precision, known, "auto, float32 or bfloat16")


def _check(name: str, value: Any, ok: bool, rule: str) -> None:
    if not ok:
        raise ConfigurationError(f"FineTuning: {name} is {rule}; got {value!r}.")


@dataclass(frozen=True)
class Material:
    """What a training loop is given."""

    ids: list[list[int]]
    """Token ids per query."""
    features: NDArray[np.float32]
    """Raw query features, shape (n, f)."""
    train: NDArray[np.intp]
    """Rows learned from."""
    dev: NDArray[np.intp]
    """Rows measured on."""


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned encoder."""

    graph: bytes
    """ONNX: `input_ids`, `attention_mask` and `features` to `tuned`, the label in its units,
    float32 (1, k - 1), and `tuned_encoded`, float32 (1, d) of unit length."""
    dev: NDArray[np.intp]
    """Rows of the training data that served as dev fold."""
    dev_predictions: NDArray[np.float64]
    """Labels predicted there, shape (dev, k - 1)."""
    facts: dict[str, Any]
    """Settings, loss curve, and what was kept."""
