"""Labels as a signal: what they add to a score, in numpy and in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router import Router
from shared_router.data.labels import make_labels
from shared_router.serving.features import feature_matrix
from shared_router.serving.task_names import TaskNames
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.fit import train_on_embeddings
from shared_router.training.task_signal import fit_signal, tasks_to_tell
from tests.material import PAIR, by_task, known_truth

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router.serving.scorer import GraphScorer
    from shared_router.training.cross_validation import TrainedHead

DATA = by_task(240)
TEXTS = DATA.queries[:6]


@pytest.fixture(scope="module")
def router(tiny_encoder: str, tiny_cache: Path) -> Router:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(DATA, PAIR, encoder=tiny_encoder)


@pytest.fixture(scope="module")
def head(tiny_encoder: str, tiny_cache: Path) -> TrainedHead:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        embeddings = embed(load_encoder(tiny_encoder), DATA.queries)
    return train_on_embeddings(DATA, make_labels(DATA, PAIR), embeddings)


def scorer_of(router: Router) -> GraphScorer:
    return router.scorer  # type: ignore[return-value]


def test_a_label_adds_what_the_text_does_not_tell(router: Router) -> None:
    plain = router.score(TEXTS)
    good = router.score(TEXTS, ["made/good"] * len(TEXTS))
    bad = router.score(TEXTS, ["made/bad"] * len(TEXTS))
    assert (good - plain > 0.1).all()
    assert (bad - plain < -0.1).all()


def test_an_unknown_label_changes_nothing(router: Router) -> None:
    labels = ["elsewhere", None, "mad", "", "made/", "unknown/suite"]
    plain = router.score(TEXTS)
    np.testing.assert_array_equal(router.score(TEXTS, labels)[:4], plain[:4])
    suite = router.score(TEXTS, ["made"] * len(TEXTS))
    np.testing.assert_array_equal(router.score(TEXTS, ["made/new"] * len(TEXTS)), suite)


def test_the_graph_computes_what_was_trained(router: Router, head: TrainedHead) -> None:
    labels = ["made/good", "made/bad", "made", "other/rare", None, "unknown"]
    _, embeddings = scorer_of(router).score_and_embed(TEXTS)
    expected = head.predict(embeddings, feature_matrix(TEXTS), labels)
    np.testing.assert_allclose(router.score(TEXTS, labels), expected, atol=1e-4)
    plain = head.predict(embeddings, feature_matrix(TEXTS))
    np.testing.assert_allclose(router.score(TEXTS), plain, atol=1e-4)


def test_one_pass_scores_a_text_under_several_labels(router: Router) -> None:
    labels = [None, "made/good", "made"]
    ((scores,),) = scorer_of(router).run(["score"], TEXTS[:1], under=[labels])
    one_by_one = [router.score(TEXTS[:1], [label])[0] for label in labels]
    np.testing.assert_array_equal(scores, one_by_one)


def test_the_task_is_told_where_the_text_tells_it(tiny_encoder: str, in_tiny_cache: Path) -> None:
    data = known_truth(150)
    scorer = scorer_of(Router.fit(data, PAIR, encoder=tiny_encoder))
    fresh = known_truth(60, split="validation", seed=1)
    shares = [row for (row,) in scorer.run(["task_shares"], fresh.queries)]
    told = [scorer.told(row) for row in shares]
    assert np.mean([a == b.task for a, b in zip(told, fresh, strict=True)]) > 0.75
    np.testing.assert_allclose(np.concatenate(shares).sum(axis=1), 1.0, rtol=1e-5)


def test_probabilities_stay_probabilities_under_a_label(
    tiny_encoder: str, in_tiny_cache: Path
) -> None:
    router = Router.fit(DATA, PAIR, labels="det", encoder=tiny_encoder)
    good, bad = (router.score(TEXTS, [f"made/{kind}"] * 6) for kind in ("good", "bad"))
    assert ((bad > 0) & (good < 1)).all()
    assert (good - bad > 0.2).all()


def test_data_without_tasks_give_a_graph_without_them(fitted: Router, tiny_encoder: str) -> None:
    assert scorer_of(fitted).tasks.told == ("made/easy", "made/hard")
    assert tasks_to_tell(["only"] * 50) == ()
    assert tasks_to_tell(["a"] * 50 + ["b"] * 9) == ()
    assert fit_signal(None, (), None, None) is None  # type: ignore[arg-type]


def test_names_find_the_narrowest_known_label() -> None:
    names = TaskNames(("s", "s/a"))
    assert names.row("s/a").tolist() == [0, 1]
    assert names.row("s/b").tolist() == [1, 0]
    assert names.row("t").tolist() == names.row(None).tolist() == [0, 0]
