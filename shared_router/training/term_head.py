"""A head on hashed words: weighed by tf-idf, their weights found by ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.errors import MissingExtraError
from shared_router.serving.terms import BUCKETS, hashed_terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_QUERIES = 2
"""A bucket met in fewer distinct training queries has no weight: it would learn the query."""
TERM_RIDGES = (3.0, 10.0, 30.0)
"""Ridge penalties that cross-validation chooses from."""
_TOLERANCE = 1e-4


def term_matrix(texts: Sequence[str]) -> Any:
    """Hash many texts.

    Returns:
        A sparse array (`scipy.sparse.csr_array`, float32) of shape (n, BUCKETS).

    Raises:
        MissingExtraError: If `scipy` is not installed.
    """
    rows = [hashed_terms(text) for text in texts]
    ends = np.cumsum([0, *(len(row.buckets) for row in rows)])
    buckets = np.concatenate([np.empty(0, dtype=np.int64), *(row.buckets for row in rows)])
    if ends[-1] < 2**31:  # half the memory, for both must be of one kind
        buckets, ends = buckets.astype(np.int32), ends.astype(np.int32)
    weights = np.concatenate([np.empty(0, dtype=np.float32), *(row.weights for row in rows)])
    return _sparse().csr_array((weights, buckets, ends), shape=(len(rows), BUCKETS))


@dataclass(frozen=True)
class TermHead:
    """Ridge regression on hashed terms; its tables are float16, as the graph carries them."""

    idf: NDArray[np.float16]
    """Shape (BUCKETS,); 0 where a term has no weight."""
    weights: NDArray[np.float16]
    """In [-1, 1], shape (BUCKETS, k - 1)."""
    scale: NDArray[np.float64]
    """What a weight of 1 stands for, in the label's units, shape (k - 1,)."""
    offset: NDArray[np.float64]
    """Shape (k - 1,)."""

    @classmethod
    def fit(
        cls, terms: Any, targets: NDArray[np.float64], ridges: Sequence[float]
    ) -> list[TermHead]:
        """Fit one head per ridge penalty.

        Args:
            terms: As `term_matrix` gives them, n rows.
            targets: Labels, shape (n, k - 1).
            ridges: Penalties of the squared weights, beside the sum of squared errors; at 1 and
                above the solver is quick to converge, as rows have unit length.
        """
        distinct = terms[_first_rows(terms)]
        count = np.bincount(distinct.indices, minlength=BUCKETS)
        idf = np.log((1 + distinct.shape[0]) / (1 + count)) + 1
        idf = np.where(count >= LEAST_QUERIES, idf, 0).astype(np.float16)
        rows = _scaled(terms, idf)
        centre, mean = rows.mean(axis=0), targets.mean(axis=0)
        heads = []
        solved = np.zeros_like(targets)
        for ridge in ridges:
            solved = _dual(rows, centre, targets - mean, ridge, solved)
            weights = rows.T @ solved - np.outer(centre, solved.sum(axis=0))
            scale = np.abs(weights).max(axis=0)
            scale[scale == 0] = 1.0
            kept = (weights / scale).astype(np.float16)
            heads.append(cls(idf, kept, scale, mean - centre @ weights))
        return heads

    def predict(self, terms: Any) -> NDArray[np.float64]:
        """Predict labels, shape (n, k - 1), from what `term_matrix` gives."""
        learned: NDArray[np.float64] = _scaled(terms, self.idf) @ self.weights.astype(np.float64)
        return learned * self.scale + self.offset


def _first_rows(terms: Any) -> list[int]:
    """Name the first of rows that are alike."""
    bounds = zip(terms.indptr[:-1], terms.indptr[1:], strict=True)
    seen = {
        (terms.indices[a:b].tobytes(), terms.data[a:b].tobytes()): row
        for row, (a, b) in reversed(list(enumerate(bounds)))
    }
    return sorted(seen.values())


def _scaled(terms: Any, idf: NDArray[np.float16]) -> Any:
    """Weigh terms by rarity, and rows to unit length; a row without terms stays empty."""
    rows = terms.astype(np.float64)
    rows.data *= idf[rows.indices]
    of_row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    lengths = np.sqrt(np.bincount(of_row, rows.data**2, minlength=rows.shape[0]))
    rows.data /= np.maximum(lengths, 1e-12)[of_row]
    return rows


def _dual(
    rows: Any,
    centre: NDArray[np.float64],
    targets: NDArray[np.float64],
    ridge: float,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve `(A A^T + ridge) x = targets` for centred rows A by conjugate gradients."""
    linalg = _sparse().linalg
    own = float(centre @ centre)
    towards = rows @ centre

    def gram(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        total = vector.sum()
        plain = rows @ (rows.T @ vector)
        across = towards @ vector
        return np.asarray(plain - towards * total - across + own * total + ridge * vector)

    square = linalg.LinearOperator((len(targets),) * 2, matvec=gram, dtype=np.float64)
    columns = [
        linalg.cg(square, column, x0=first, rtol=_TOLERANCE)[0]
        for column, first in zip(targets.T, start.T, strict=True)
    ]
    return np.stack(columns, axis=1)


def _sparse() -> Any:
    try:
        from scipy import sparse
        from scipy.sparse import linalg  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Training needs scipy: pip install 'hybrid-llm[train]'.") from error
    return sparse
