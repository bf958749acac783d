"""Embeddings, computed once and cached on disk by content hash.

The cache holds hashes and vectors, never text.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from shared_router.serving.scorer import map_texts
from shared_router.serving.session import GraphSession
from shared_router.support.user_warnings import warn
from shared_router.training.encoder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.training.encoder import ExportedEncoder

_SCHEMA = "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
_SAVE_EVERY = 512
LOCK_WAIT_S = 10.0
"""Seconds to wait for another process that is writing the cache."""

T = TypeVar("T")


class EmbeddingCacheWarning(UserWarning):
    """The embedding cache is corrupt, locked or not writable; fitting goes on without it."""


def embed(
    encoder: ExportedEncoder,
    texts: Sequence[str],
    *,
    cache: bool = True,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed texts with an exported encoder, each alone.

    Args:
        encoder: The encoder.
        texts: What to embed.
        cache: Whether to read and fill the cache on disk.
        progress: Called with the number of texts just done.

    Returns:
        float32 of shape (n, d), rows of unit length.
    """
    keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    known = _Cache(cache_folder() / "embeddings" / f"{encoder.sha256}.sqlite") if cache else None
    vectors = known.read(keys) if known else {}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
    if progress is not None:
        progress(len(texts) - len(missing))
    _compute(encoder, missing, vectors, known, progress)
    stacked: NDArray[np.float32] = np.stack([vectors[key] for key in keys])
    return stacked


def _compute(
    encoder: ExportedEncoder,
    missing: dict[bytes, str],
    vectors: dict[bytes, NDArray[np.float32]],
    known: _Cache | None,
    progress: Callable[[int], None] | None,
) -> None:
    session = GraphSession(encoder.graph)
    tokens = encoder.tokens

    def one(text: str) -> NDArray[np.float32]:
        row: NDArray[np.float32] = session.run(["encoded"], tokens.encode(text))[0][0]
        return row

    fresh: dict[bytes, NDArray[np.float32]] = {}
    for key, vector in zip(missing, map_texts(one, list(missing.values()), progress), strict=True):
        vectors[key] = fresh[key] = vector
        if known is not None and len(fresh) >= _SAVE_EVERY:
            known.write(fresh)
            fresh = {}
    if known is not None:
        known.write(fresh)


class _Cache:
    """One SQLite file per encoder; whatever is wrong with it costs time, never the fit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trusted = True
        """`False` after the first trouble; a file rebuilt since then gets no third chance."""
        self._usable = True

    def read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        wanted = set(keys)

        def select(db: sqlite3.Connection) -> dict[bytes, NDArray[np.float32]]:
            rows = db.execute("SELECT key, vector FROM embeddings")
            found = {key: vector for key, vector in rows if key in wanted}
            if len({len(vector) for vector in found.values()}) > 1:
                raise sqlite3.DatabaseError("vectors of different lengths")
            return {key: np.frombuffer(vector, dtype=np.float32) for key, vector in found.items()}

        return self._with(select) or {}

    def write(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        rows = [(key, vector.tobytes()) for key, vector in vectors.items()]
        self._with(
            lambda db: db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
        )

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something in the database, if it can be done."""
        if not self._usable:
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=LOCK_WAIT_S)) as db, db:
                db.execute(_SCHEMA)
                return work(db)
        except (sqlite3.Error, OSError) as error:
            self._distrust(error)
            return None

    def _distrust(self, error: Exception) -> None:
        """Say what is wrong, once; remove a corrupt file, so that it is built anew."""
        corrupt = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        )
        self._usable = corrupt and self._trusted and self._remove()
        if self._trusted:
            self._trusted = False
            outcome = "it is built anew" if self._usable else "embeddings are computed anew"
            warn(
                f"Embedding cache {self._path} cannot be used ({error}): {outcome}.",
                EmbeddingCacheWarning,
            )

    def _remove(self) -> bool:
        try:
            for ending in ("", "-journal", "-wal", "-shm"):
                Path(f"{self._path}{ending}").unlink(missing_ok=True)
        except OSError:
            return False
        return True
