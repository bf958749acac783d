"""Training against known truth: what is there is found, what is not is not claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router import Router
from shared_router.training.cross_validation import train_head
from shared_router.training.heads import Batch, KernelHead, NeighbourHead, Standardiser, TaskHead
from shared_router.training.neighbours import neighbour_mean
from tests.material import EASY, HARD, PAIR, dataset, known_truth, record

if TYPE_CHECKING:
    from pathlib import Path

DIMENSIONS = 8


def made_batch(n: int = 200, *, noise: bool = False, seed: int = 0, tasks: bool = True) -> Batch:
    """Make unit embeddings whose first coordinate tells the gap, unless it is noise."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(n, DIMENSIONS)).astype(np.float32)
    embeddings = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    signal = rng.normal(size=n) if noise else embeddings[:, 0]
    targets = (signal + 0.05 * rng.normal(size=n))[:, None]
    labels = tuple("a" if x > 0 else "b" for x in signal) if tasks else (None,) * n
    return Batch(embeddings, rng.normal(size=(n, 3)).astype(np.float32), targets, labels)


def keys(batch: Batch) -> list[str]:
    return [f"query {i}" for i in range(len(batch))]


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def test_a_gap_that_depends_on_the_query_is_learned() -> None:
    batch, fresh = made_batch(), made_batch(seed=1)
    head = train_head(batch, keys(batch), probability=False)
    assert correlation(head.predict(fresh.embeddings, fresh.features), fresh.targets) > 0.9
    assert all(weight > 0 for weight in head.weights.values())
    assert set(head.parts) == set(head.weights)


def test_noise_is_not_learned() -> None:
    batch, fresh = made_batch(noise=True), made_batch(noise=True, seed=1)
    head = train_head(batch, keys(batch), probability=False)
    predicted = head.predict(fresh.embeddings, fresh.features)
    assert abs(correlation(predicted, fresh.targets)) < 0.2


def test_probabilities_stay_between_0_and_1_and_are_calibrated() -> None:
    batch, fresh = made_batch(400), made_batch(2000, seed=1)
    soft = Batch(batch.embeddings, batch.features, (batch.targets > 0).astype(float), batch.tasks)
    found = train_head(soft, keys(soft), probability=True).predict(fresh.embeddings, fresh.features)
    assert ((found > 0) & (found < 1)).all()
    assert found.mean() == pytest.approx(0.5, abs=0.1)
    assert (fresh.targets[found > 0.9] > 0).mean() > 0.85


def test_the_same_seed_trains_the_same_head() -> None:
    batch = made_batch()
    one, same = (train_head(batch, keys(batch), probability=False) for _ in range(2))
    np.testing.assert_array_equal(
        one.predict(batch.embeddings, batch.features),
        same.predict(batch.embeddings, batch.features),
    )


def test_neighbours_can_be_left_out() -> None:
    batch = made_batch()
    assert (
        "neighbours"
        not in train_head(batch, keys(batch), probability=False, neighbours=False).parts
    )


def test_without_tasks_there_is_no_task_head() -> None:
    batch = made_batch(tasks=False)
    assert "task" not in train_head(batch, keys(batch), probability=False).parts


@pytest.mark.parametrize("n", [2, 3, 19])
def test_a_handful_of_queries_is_fitted_without_cross_validation(n: int) -> None:
    batch = made_batch(n)
    head = train_head(batch, keys(batch), probability=False)
    assert head.weights == {"kernel": 1.0}
    assert np.isfinite(head.predict(batch.embeddings, batch.features)).all()


def test_a_query_that_stands_often_does_not_flatter_itself() -> None:
    """Copies of a query stay in one fold: else neighbours would seem perfect on noise."""
    batch = made_batch(60, noise=True, tasks=False)
    rows = np.repeat(np.arange(60), 10)
    groups = [f"query {row}" for row in rows]
    head = train_head(batch.take(rows), groups, probability=False)
    assert sum(head.weights.values()) < 0.6 or head.weights == {"kernel": 1.0}


def test_several_candidates_are_learned_together() -> None:
    batch = made_batch()
    both = Batch(
        batch.embeddings, batch.features, np.hstack([batch.targets, -batch.targets]), batch.tasks
    )
    head = train_head(both, keys(both), probability=False)
    found = head.predict(both.embeddings, both.features)
    assert found.shape == (200, 2)
    assert correlation(found[:, 0], found[:, 1]) < -0.9


def test_a_feature_that_never_varies_weighs_nothing() -> None:
    features = np.array([[1, 5], [2, 5], [3, 5]], dtype=np.float32)
    standardiser = Standardiser.fit(features)
    joined = standardiser.join(np.zeros((1, 2), np.float32), np.array([[2, 999]], np.float32))
    np.testing.assert_allclose(joined, [[0, 0, 0, 0]], atol=1e-7)


def test_the_kernel_interpolates_what_it_has_seen() -> None:
    batch = made_batch(50)
    (head,) = KernelHead.fit(batch, (1e-3,), seed=0)
    assert correlation(head.predict(batch.embeddings, batch.features), batch.targets) > 0.97


def test_neighbours_average_the_nearest() -> None:
    rng = np.random.default_rng(0)
    known, queries = rng.normal(size=(2, 30, 4)).astype(np.float32)
    targets = rng.normal(size=(30, 2))
    nearest = np.argsort(-(queries @ known.T), axis=1)[:, :7]
    expected = targets[nearest].mean(axis=1)
    np.testing.assert_allclose(neighbour_mean(queries, known, targets, k=7), expected)
    everyone = NeighbourHead(known, targets).predict(queries, queries)
    np.testing.assert_allclose(everyone, np.tile(targets.mean(axis=0), (30, 1)))


def test_the_task_head_predicts_each_tasks_mean() -> None:
    batch = made_batch(400)
    head = TaskHead.fit(batch, ("a", "b"))
    found = head.predict(batch.embeddings, batch.features)
    means = [batch.targets[np.array(batch.tasks) == task].mean() for task in "ab"]
    assert head.means[:, 0] == pytest.approx(means, abs=0.05)
    assert min(means) - 0.05 <= found.min() < found.max() <= max(means) + 0.05


# -- whole routers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Router:
    """A router on the real MiniLM."""
    return Router.fit(known_truth(250), PAIR, cache=False)


def test_a_fitted_router_finds_the_truth(real: Router) -> None:
    """The truth itself would reach 0.75: half of the queries are easy, the rest are all alike."""
    found = real.evaluate(known_truth(250, split="validation", seed=1), resamples=100)
    assert found.router["apgr"] > 0.7
    assert found.baselines["random"]["router_lead_apgr"][0] > 0.15
    hard, easy = real.score(HARD).mean(), real.score(EASY).mean()
    assert hard < easy - 0.4


def test_scores_of_gap_are_in_the_metrics_units(real: Router) -> None:
    assert real.score(HARD).mean() == pytest.approx(0.15 - 0.9, abs=0.15)
    assert real.score(EASY).mean() == pytest.approx(0.0, abs=0.15)


def test_a_router_fitted_on_noise_does_not_pretend(in_tiny_cache: Path, tiny_encoder: str) -> None:
    found = []
    for seed in range(3):
        router = Router.fit(known_truth(200, seed=seed, noise=True), PAIR, encoder=tiny_encoder)
        fresh = known_truth(600, split="validation", seed=50 + seed, noise=True)
        found.append(router.evaluate(fresh, resamples=2).router["apgr"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_progress_is_told_to_the_end(in_tiny_cache: Path, tiny_encoder: str) -> None:
    told: list[tuple[str, int, int]] = []
    data = known_truth(30, seed=77)
    Router.fit(data, PAIR, encoder=tiny_encoder, progress=lambda *step: told.append(step))
    assert told[-1] == ("embed", 30, 30)
    told.clear()
    Router.fit(data, PAIR, encoder=tiny_encoder, progress=lambda *step: told.append(step))
    assert told == [("embed", 30, 30)]


def test_progress_of_a_single_query_is_told(in_tiny_cache: Path, fitted: Router) -> None:
    told: list[tuple[str, int, int]] = []
    one = dataset(record("v", "solve 3x", "validation", small=0, large=1))
    fitted.evaluate(one, resamples=1, progress=lambda *step: told.append(step))
    assert told == [("score", 1, 1)]
