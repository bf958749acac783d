"""The embedding cache: saves time, keeps no text, and never stands in the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router.training import embedding
from shared_router.training.embedding import EmbeddingCacheWarning, embed
from shared_router.training.encoder import ExportedEncoder, load_encoder

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["my secret question", "another one", "my secret question"]


@pytest.fixture
def encoder(in_tiny_cache: Path, tiny_encoder: str) -> ExportedEncoder:
    return load_encoder(tiny_encoder)


@pytest.fixture
def cache_file(encoder: ExportedEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache; the encoder is exported already."""
    monkeypatch.setenv("HYBRID_LLM_CACHE", str(tmp_path))
    return tmp_path / "embeddings" / f"{encoder.sha256}.sqlite"


def steps_of(encoder: ExportedEncoder, texts: list[str]) -> list[int]:
    told: list[int] = []
    embed(encoder, texts, progress=told.append)
    return told


def test_the_second_time_nothing_is_computed(encoder: ExportedEncoder, cache_file: Path) -> None:
    first = embed(encoder, TEXTS)
    assert steps_of(encoder, TEXTS) == [3]
    np.testing.assert_array_equal(embed(encoder, TEXTS), first)
    assert cache_file.is_file()


def test_only_what_is_new_is_computed(encoder: ExportedEncoder, cache_file: Path) -> None:
    assert steps_of(encoder, ["one"]) == [0, 1]
    assert steps_of(encoder, ["one", "two", "three"]) == [1, 1, 1]


def test_each_text_is_embedded_as_if_alone(encoder: ExportedEncoder, cache_file: Path) -> None:
    together = embed(encoder, TEXTS, cache=False)
    alone = [embed(encoder, [text], cache=False)[0] for text in TEXTS]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)


def test_the_cache_holds_no_text(encoder: ExportedEncoder, cache_file: Path) -> None:
    embed(encoder, TEXTS)
    held = b"".join(path.read_bytes() for path in cache_file.parent.iterdir())
    assert b"secret" not in held


def test_without_the_cache_nothing_is_written(encoder: ExportedEncoder, cache_file: Path) -> None:
    embed(encoder, TEXTS, cache=False)
    assert not cache_file.exists()


def expect_recovery(encoder: ExportedEncoder, match: str) -> None:
    """One warning, right embeddings."""
    expected = embed(encoder, TEXTS, cache=False)
    with pytest.warns(EmbeddingCacheWarning, match=match) as caught:
        found = embed(encoder, TEXTS)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"x" * 900]
)
def test_a_corrupt_cache_is_built_anew(
    encoder: ExportedEncoder, cache_file: Path, content: bytes
) -> None:
    cache_file.parent.mkdir(parents=True)
    cache_file.write_bytes(content)
    expect_recovery(encoder, "built anew")
    assert steps_of(encoder, TEXTS) == [3]


def test_a_truncated_cache_is_built_anew(encoder: ExportedEncoder, cache_file: Path) -> None:
    embed(encoder, [f"text {i}" for i in range(200)])
    whole = cache_file.read_bytes()
    cache_file.write_bytes(whole[: len(whole) // 2])
    expect_recovery(encoder, "built anew")
    assert steps_of(encoder, TEXTS) == [3]


def test_vectors_of_a_wrong_length_are_computed_anew(
    encoder: ExportedEncoder, cache_file: Path
) -> None:
    embed(encoder, TEXTS)
    with closing(sqlite3.connect(cache_file)) as db, db:
        db.execute("UPDATE embeddings SET vector = x'00000000' WHERE rowid = 1")
    expect_recovery(encoder, "vectors of different lengths")
    assert steps_of(encoder, TEXTS) == [3]


def test_a_foreign_table_is_left_alone(encoder: ExportedEncoder, cache_file: Path) -> None:
    cache_file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(cache_file)) as db, db:
        db.execute("CREATE TABLE embeddings (another TEXT)")
    expect_recovery(encoder, "computed anew")


def test_a_locked_cache_is_not_waited_for_long(
    encoder: ExportedEncoder, cache_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "LOCK_WAIT_S", 0.05)
    embed(encoder, ["something else"])
    with closing(sqlite3.connect(cache_file)) as db:
        db.execute("BEGIN EXCLUSIVE")
        expect_recovery(encoder, "locked.*computed anew")
        db.rollback()
    assert steps_of(encoder, ["something else"]) == [1]


def test_a_cache_that_cannot_be_made_is_done_without(
    encoder: ExportedEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("HYBRID_LLM_CACHE", str(tmp_path / "a-file"))
    expect_recovery(encoder, "computed anew")
