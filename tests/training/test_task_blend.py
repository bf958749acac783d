"""A label beside a fine-tuned encoder: it says as much as it does beside heads alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import FineTuning, Router
from shared_router.data.labels import make_labels
from shared_router.errors import ConfigurationError
from shared_router.serving.features import FEATURE_NAMES, feature_matrix
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession
from shared_router.training.blend import Blend
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.export import export_router_graph, export_tuned_graph
from shared_router.training.finetuning.tune import finetune
from shared_router.training.fit import train_on_embeddings
from tests.material import PAIR, by_task

if TYPE_CHECKING:
    from pathlib import Path

DATA = by_task(400)
FEWER = by_task(120)
FRESH = by_task(400, split="fresh", seed=3)
QUICK = FineTuning(epochs=1, learning_rate=1e-3, batch_size=16, precision="float32")
LABELS = ["made/good", "made/bad", "made", "other/rare", None, "unknown"]
WEIGHT = 0.7


@pytest.fixture(scope="module")
def router(tiny_encoder: str, tiny_cache: Path) -> Router:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(DATA, PAIR, encoder=tiny_encoder, finetune=QUICK)


def test_a_score_under_a_label_is_the_gap_of_that_task(router: Router) -> None:
    """The text says nothing here, so that a part of the label's offset would miss the truth."""
    assert 0.2 < router.facts["training"]["parts"]["tuned"] < 0.8
    gaps = np.diff(-FRESH.quality(PAIR), axis=1)
    tasks = np.array([record.task for record in FRESH])
    for task in ("made/good", "made/bad"):
        mine = np.flatnonzero(tasks == task)
        queries = [FRESH.queries[row] for row in mine]
        scores = router.score(queries, [task] * len(mine))
        assert scores.mean() == pytest.approx(gaps[mine].mean(), abs=0.09)


def test_its_dials_hold_within_tasks(router: Router, tmp_path: Path) -> None:
    router.calibrate(by_task(320, split="validation", seed=1)).save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    found = [
        again.decide("please", task=f"made/{kind}", max_quality_drop=0.2, confidence="estimate")
        for kind in ("good", "bad")
    ]
    assert [one.calibrated_task for one in found] == ["made/good", "made/bad"]
    assert [one.candidate for one in found] == ["small", "large"]
    told = again.calibrate(by_task(320, split="other", seed=2), by_task="predicted")
    assert told.decide("please", max_quality_drop=0.2).task_source == "predicted"


@pytest.mark.parametrize("kind", ["gap", "det"])
def test_the_graph_adds_the_whole_offset(tiny_encoder: str, in_tiny_cache: Path, kind: Any) -> None:
    encoder, labels = load_encoder(tiny_encoder), make_labels(FEWER, PAIR, kind)
    head = train_on_embeddings(FEWER, labels, embed(encoder, FEWER.queries), neighbours=False)
    tuned = finetune(FEWER, PAIR, labels, encoder, QUICK)
    blend = Blend(tuned.graph, WEIGHT, head)
    graph = export_router_graph(encoder.graph, blend, len(FEATURE_NAMES))
    assert head.signal is not None
    scorer = GraphScorer(GraphSession(graph), encoder.tokens, tasks=head.signal.names)
    alone = GraphScorer(GraphSession(export_tuned_graph(tuned.graph)), encoder.tokens)

    texts = FRESH.queries[: len(LABELS)]
    _, embeddings = scorer.score_and_embed(texts)
    mixed = WEIGHT * alone.score(texts) + (1 - WEIGHT) * head.predict(
        embeddings, feature_matrix(texts)
    )
    offsets = head.signal.offset_of(LABELS)
    expected = (
        mixed + offsets if kind == "gap" else 1 / (1 + (1 - mixed) / mixed * np.exp(-offsets))
    )
    np.testing.assert_allclose(scorer.score(texts, tasks=LABELS), expected, atol=1e-4)
    np.testing.assert_allclose(scorer.score(texts), mixed, atol=1e-4)


def test_a_tuned_encoder_alone_knows_no_labels(tiny_encoder: str, in_tiny_cache: Path) -> None:
    recipe = FineTuning.paper(epochs=1, learning_rate=1e-3)
    router = Router.fit(FEWER, PAIR, encoder=tiny_encoder, finetune=recipe)
    texts = FRESH.queries[:5]
    under = router.score(texts, ["made/good"] * 5)
    np.testing.assert_array_equal(under, router.score(texts))
    validation = by_task(320, split="validation", seed=1)
    decision = router.calibrate(validation).decide("please", task="made/bad", cost_advantage=0.5)
    assert decision.calibrated_task == "made/bad"
    with pytest.raises(ConfigurationError, match=r"a fine-tuned encoder alone \(blend=False\)"):
        router.calibrate(validation, by_task="predicted")
