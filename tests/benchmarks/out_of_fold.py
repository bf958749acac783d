"""Scores of queries by routers that have not seen them: five folds over every row of a data file.

Rows of one query stay in one fold. Each fold's router is trained on the other four alone, labels,
choice of parts and task signal included. The folds' scores are kept in the library's cache folder,
so that several benchmarks share one training.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared_router import RoutingDataset
from shared_router.data.labels import make_labels
from shared_router.serving.features import feature_matrix
from shared_router.training.embedding import embed
from shared_router.training.encoder import cache_folder, load_encoder
from shared_router.training.fit import train_on_embeddings
from shared_router.training.term_head import term_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FOLDS = 5
RECIPE = "frozen MiniLM, kernel + neighbours + task + terms where sure, task signal, v4"


@dataclass(frozen=True)
class OutOfFold:
    """Queries with scores by routers that have not seen them."""

    data: RoutingDataset
    names: tuple[str, ...]
    """Candidates, the reference last."""
    plain: NDArray[np.float64]
    """Scores without labels, shape (n, k - 1)."""
    labelled: NDArray[np.float64]
    """Scores under each query's own label, shape (n, k - 1)."""
    told: NDArray[np.bool_]
    """Whether the text alone told the task, shape (n,)."""
    embeddings: NDArray[np.float32]
    folds: NDArray[np.intp]

    def pair(self, small: str) -> OutOfFold:
        """Take one candidate with the reference out of the whole."""
        at = [self.names.index(small)]
        names = (small, self.names[-1])
        return replace(self, names=names, plain=self.plain[:, at], labelled=self.labelled[:, at])

    @property
    def quality(self) -> NDArray[np.float64]:
        """Mean quality, shape (n, k)."""
        return self.data.quality(self.names)

    @property
    def tasks(self) -> NDArray[np.str_]:
        """The task of each query."""
        return np.array([record.task for record in self.data])


def folds_of(queries: Sequence[str], seed: int = 0) -> NDArray[np.intp]:
    """Deal distinct queries to folds."""
    _, inverse = np.unique(np.array(queries), return_inverse=True)
    return np.random.default_rng(seed).permutation(inverse.max() + 1)[inverse] % FOLDS


def out_of_fold(path: str, names: Sequence[str]) -> OutOfFold:
    """Train five routers, or read their scores from the cache."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows without all candidates
        data = RoutingDataset.load(path).candidates(names)
    encoder = load_encoder("minilm")
    embeddings = embed(encoder, data.queries)
    folds = folds_of(data.queries)
    key = hashlib.sha256(
        "\n".join([RECIPE, encoder.sha256, *names, *data.ids, *data.queries]).encode()
    )
    kept = cache_folder() / "benchmarks" / f"{key.hexdigest()[:24]}.npz"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **_trained(data, names, embeddings, folds))
    with np.load(kept) as found:
        arrays = {name: found[name] for name in ("plain", "labelled", "told")}
    return OutOfFold(data, tuple(names), embeddings=embeddings, folds=folds, **arrays)


def _trained(
    data: RoutingDataset,
    names: Sequence[str],
    embeddings: NDArray[np.float32],
    folds: NDArray[np.intp],
) -> dict[str, NDArray[np.generic]]:
    features, tasks = feature_matrix(data.queries), [record.task for record in data]
    plain = np.empty((len(data), len(names) - 1))
    labelled, told = plain.copy(), np.zeros(len(data), dtype=bool)
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        train = data.take(inside)
        head = train_on_embeddings(train, make_labels(train, names), embeddings[inside])
        rows = embeddings[outside], features[outside]
        words = term_matrix([data.queries[row] for row in outside])
        plain[outside] = head.predict(*rows, terms=words)
        labelled[outside] = head.predict(*rows, [tasks[row] for row in outside], words)
        if head.signal is not None and head.signal.teller is not None:
            teller, known = head.signal.teller, np.array(head.signal.names.told)
            told[outside] = (
                known[(rows[0] @ teller.weights + teller.offset).argmax(axis=1)]
                == np.array(tasks)[outside]
            )
    return {"plain": plain, "labelled": labelled, "told": told}
