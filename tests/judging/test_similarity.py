"""Embedding similarity with a tiny encoder."""

from __future__ import annotations

import pytest

from shared_router.errors import ConfigurationError
from shared_router.judging.metric import QualityMetric
from shared_router.judging.similarity import EmbeddingSimilarity
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder


def test_it_is_the_cosine_of_the_embeddings(tiny_encoder, in_tiny_cache):
    metric = EmbeddingSimilarity(tiny_encoder)
    assert isinstance(metric, QualityMetric)
    assert metric.score("q", "name the capital", "name the capital") == pytest.approx(1)
    texts = ["name the capital", "factor 1071 = ?"]
    one, two = embed(load_encoder(tiny_encoder), texts, cache=False)
    found = metric.score("q", *texts)
    assert found == pytest.approx(float(one @ two), abs=1e-6)
    assert -1 <= metric.score("q", "", texts[0]) <= 1


def test_an_encoder_that_is_nowhere(tmp_path, own_cache):
    with pytest.raises(ConfigurationError):
        EmbeddingSimilarity(str(tmp_path)).score("q", "a", "b")
