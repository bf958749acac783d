"""Fine-tuning an encoder to a pair of models: dev fold, checkpoints, result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_router.data.output import write_whole
from shared_router.errors import ConfigurationError, DataError
from shared_router.serving.features import FEATURE_NAMES, feature_matrix
from shared_router.training.encoder import cache_folder
from shared_router.training.finetuning.joint_outcomes import make_objective
from shared_router.training.finetuning.loop import train_encoder
from shared_router.training.finetuning.settings import Material

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import Labels
    from shared_router.training.encoder import ExportedEncoder
    from shared_router.training.finetuning.settings import FineTuning, Tuned

LEAST_ROWS = 40
"""Fewest training queries an encoder is tuned on."""
_TRAINING = "training.json"


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
