"""Fine-tuning an encoder to a pair of models: settings, dev fold, checkpoints, result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.output import write_whole
from shared_router.errors import ConfigurationError, DataError
from shared_router.serving.features import FEATURE_NAMES, feature_matrix
from shared_router.training.encoder import cache_folder
from shared_router.training.finetuning.joint_outcomes import make_objective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import Labels
    from shared_router.training.encoder import ExportedEncoder

LEAST_ROWS = 40
"""Fewest training queries an encoder is tuned on."""
_TRAINING = "training.json"


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


def dev_fold(queries: Sequence[str], share: float) -> NDArray[np.intp]:
    """Choose the rows of the dev fold: a share of the distinct queries, by a hash of their text.

    Args:
        queries: All training queries.
        share: Share of the fold, in (0, 1).

    Returns:
        Row numbers, rising; copies of a query are all in or all out. At least one query is in,
        and one out, where there are two.
    """
    keys = [_text_key(query) for query in queries]
    distinct = sorted(set(keys))
    wanted = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    chosen = set(distinct[:wanted])
    return np.flatnonzero([key in chosen for key in keys])


def _text_key(query: str) -> bytes:
    words = " ".join(query.lower().split())
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def finetune(
    data: RoutingDataset,
    candidates: Sequence[str],
    labels: Labels,
    encoder: ExportedEncoder,
    settings: FineTuning,
    features: NDArray[np.float32] | None = None,
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tuned:
    """Fine-tune an encoder on all but a dev fold of the training queries.

    Args:
        data: Records in which every candidate has an outcome.
        candidates: Names, the reference last.
        labels: Their labels.
        encoder: The frozen encoder to start from.
        settings: How.
        features: Features of the queries, shape (n, f); those of the texts where `None`.
        seed: Seed of the fresh head, of dropout and of the order of queries.
        progress: Told of steps, as stage `tune`.

    Returns:
        The tuned encoder, at its best measurement on the dev fold.

    Raises:
        DataError: If there are too few queries.
        ConfigurationError: If the folder of checkpoints belongs to another training.
        MissingExtraError: If the `train` extra is not installed.
    """
    if len(set(map(_text_key, data.queries))) < LEAST_ROWS:
        raise DataError(
            f"{data.name}: {len(data)} queries; fine-tuning needs at least {LEAST_ROWS} different "
            "ones, and some thousand to be worth much. Fit without fine-tuning."
        )
    from shared_router.training.finetuning.loop import train_encoder

    dev = dev_fold(data.queries, settings.dev_share)
    material = Material(
        [encoder.tokens.ids(query) for query in data.queries],
        feature_matrix(data.queries) if features is None else features,
        np.setdiff1d(np.arange(len(data)), dev),
        dev,
    )
    objective = make_objective(labels, data.quality(candidates))
    folder = _checkpoint_folder(
        settings, _digest(material, objective.targets, encoder, settings, seed)
    )
    tuned = train_encoder(material, objective, encoder, settings, folder, seed, progress)
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
    return tuned


def _digest(
    material: Material,
    targets: NDArray[np.float32],
    encoder: ExportedEncoder,
    settings: FineTuning,
    seed: int,
) -> str:
    """Name a training: the same data, encoder, settings and seed give the same name."""
    whole = hashlib.sha256(encoder.sha256.encode())
    described = dataclasses.asdict(settings) | {"checkpoints": None, "seed": seed}
    whole.update(json.dumps(described, sort_keys=True).encode())
    whole.update(json.dumps(material.ids).encode())
    whole.update(targets.tobytes())
    if material.features.shape[1] > len(FEATURE_NAMES):  # the others follow from the text
        whole.update(material.features.tobytes())
    return whole.hexdigest()


def is_main_process() -> bool:
    """Tell whether this process, of those that `torchrun` started, is the first; alone it is."""
    return os.environ.get("RANK", "0") == "0"


def _checkpoint_folder(settings: FineTuning, digest: str) -> Path:
    folder = Path(settings.checkpoints or cache_folder() / "tuning" / digest[:16])
    if not is_main_process():
        return folder
    note = folder / _TRAINING
    try:
        known = json.loads(note.read_text())["digest"] if note.is_file() else None
        half = f".{_TRAINING}"  # a note that was killed in the middle
        held = folder.is_dir() and any(not p.name.endswith(half) for p in folder.iterdir())
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{folder}: cannot hold checkpoints ({error}); name another folder."
        ) from error
    if known != digest and held:
        raise ConfigurationError(
            f"{folder}: holds {'the checkpoints of another training' if known else 'other files'} "
            "(data, settings, encoder or seed differ), and would be deleted at the end; name a new "
            "or an empty folder."
        )
    if known is None:
        write_whole(note, json.dumps({"digest": digest}).encode())
    return folder
