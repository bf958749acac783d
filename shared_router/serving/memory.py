"""What a router remembers of its training: an input of its graph, and a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.checks import check_array, check_finite
from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainMemory:
    """What a router remembers of its training: for neighbours and for comparison."""

    embeddings: NDArray[np.float16]
    """Unit length, shape (n, d)."""
    gaps: NDArray[np.float32]
    """Mean quality less the reference's, shape (n, k - 1)."""

    def as_input(self) -> NDArray[np.float32]:
        """Lay the embeddings out as the graph takes them, float32 (d, n)."""
        return np.ascontiguousarray(self.embeddings.T, dtype=np.float32)


def check_memory(memory: TrainMemory, k: int) -> None:
    """Check what a router of k candidates remembers of its training.

    Raises:
        ConfigurationError: If the arrays do not belong together, or hold no finite numbers. Gaps
            may all be NaN, as where they were those of other models.
    """
    owner, (embeddings, gaps) = "A train memory", (memory.embeddings, memory.gaps)
    check_array("embeddings", embeddings, 2, owner)
    check_array("gaps", gaps, 2, owner)
    check_finite("embeddings", embeddings, owner)
    if not embeddings.size:
        raise ConfigurationError(f"{owner} has at least one embedding; got {embeddings.shape}.")
    if gaps.shape != (len(embeddings), k - 1):
        raise ConfigurationError(
            f"The gaps of a train memory have a row per embedding and a column per candidate but "
            f"the last, {(len(embeddings), k - 1)}; got {gaps.shape}."
        )
    if not np.isnan(gaps).all():
        check_finite("gaps", gaps, owner)
