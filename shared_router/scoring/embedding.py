"""Embeddings, computed once and cached on disk by content hash.

The cache holds hashes and vectors, never text.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from shared_router.scoring.encoder import cache_folder
from shared_router.scoring.serving import GraphSession, Tokens, map_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from shared_router.scoring.encoder import ExportedEncoder

_SCHEMA = "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
_SAVE_EVERY = 512


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
    tokens = Tokens(encoder.tokenizer.read_text(encoding="utf-8"), encoder.max_tokens)

    def one(text: str) -> NDArray[np.float32]:
        return session.run(["encoded"], tokens.encode(text))[0][0]

    fresh: dict[bytes, NDArray[np.float32]] = {}
    for key, vector in zip(missing, map_texts(one, list(missing.values()), progress), strict=True):
        vectors[key] = fresh[key] = vector
        if known is not None and len(fresh) >= _SAVE_EVERY:
            known.write(fresh)
            fresh = {}
    if known is not None:
        known.write(fresh)


class _Cache:
    """One SQLite file per encoder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as db, db:
            db.execute(_SCHEMA)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        wanted = set(keys)
        with closing(self._connect()) as db:
            rows = db.execute("SELECT key, vector FROM embeddings")
            return {
                key: np.frombuffer(vector, dtype=np.float32)
                for key, vector in rows
                if key in wanted
            }

    def write(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        with closing(self._connect()) as db, db:
            db.executemany(
                "INSERT OR REPLACE INTO embeddings VALUES (?, ?)",
                [(key, vector.tobytes()) for key, vector in vectors.items()],
            )
