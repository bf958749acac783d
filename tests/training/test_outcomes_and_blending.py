"""What fine-tuning predicts, the fold it is stopped on, and what it weighs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from shared_router.data.labels import make_labels
from shared_router.errors import ConfigurationError
from shared_router.training.blend import PRIOR_WEIGHT, blend_weight
from shared_router.training.finetuning.joint_outcomes import OUTCOMES, make_objective
from shared_router.training.finetuning.settings import FineTuning
from shared_router.training.finetuning.tune import dev_fold
from tests.material import PAIR, dataset, known_truth, record

GRADED = dataset(
    record("a", "one", small=[2.0, 4.0], large=[8.0, 6.0]),
    record("b", "two", small=10.0, large=10.0),
    record("c", "three", small=9.0, large=0.0),
)


def objective_of(data: Any, kind: Any) -> Any:
    return make_objective(make_labels(data, PAIR, kind), data.quality(PAIR))


def test_right_and_wrong_answers_make_one_outcome_each() -> None:
    data = dataset(
        record("a", small=1, large=0),
        record("b", small=0, large=1),
        record("c", small=1, large=1),
        record("d", small=0, large=0),
    )
    np.testing.assert_array_equal(objective_of(data, "gap").targets[:, 0], np.eye(4))
    assert OUTCOMES == ("only the candidate", "only the reference", "both", "neither")


def test_graded_outcomes_are_probabilities_whose_difference_is_the_gap() -> None:
    objective = objective_of(GRADED, "gap")
    np.testing.assert_allclose(objective.targets.sum(axis=2), 1, rtol=1e-6)
    assert (objective.targets >= 0).all()
    gaps = GRADED.quality(PAIR)[:, :1] - GRADED.quality(PAIR)[:, 1:]
    np.testing.assert_allclose(objective.labels(objective.targets), gaps, atol=1e-5)


def test_logits_of_the_truth_predict_the_gap_at_least_loss() -> None:
    torch = pytest.importorskip("torch")
    objective = objective_of(GRADED, "gap")
    targets = torch.from_numpy(objective.targets)
    truth = torch.log(targets + 1e-9)
    gaps = GRADED.quality(PAIR)[:, :1] - GRADED.quality(PAIR)[:, 1:]
    np.testing.assert_allclose(objective.predict(truth).numpy(), gaps, atol=1e-4)
    assert objective.loss(truth, targets) < objective.loss(truth * 0.5, targets)


def test_the_papers_labels_are_learned_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    data = known_truth(50)
    objective = objective_of(data, "det")
    labels = make_labels(data, PAIR, "det").values
    np.testing.assert_array_equal(objective.labels(objective.targets), labels)
    half = torch.zeros(50, 1, 1)
    assert objective.predict(half).flatten().tolist() == [0.5] * 50
    assert float(objective.loss(half, torch.from_numpy(objective.targets))) == pytest.approx(
        np.log(2), abs=1e-6
    )


# -- dev fold -----------------------------------------------------------------------------------

QUERIES = [f"query {i}" for i in range(200)]


def test_a_dev_fold_is_a_share_of_the_queries() -> None:
    assert len(dev_fold(QUERIES, 0.1)) == 20
    assert len(dev_fold(QUERIES, 0.999)) == len(QUERIES) - 1  # something is left to learn from


def test_copies_of_a_query_are_all_in_the_dev_fold_or_all_out() -> None:
    doubled = [*QUERIES, *(f" {query.upper()}\n" for query in QUERIES)]
    chosen = set(dev_fold(doubled, 0.1).tolist())
    assert {row + 200 for row in chosen if row < 200} == {row for row in chosen if row >= 200}


def test_a_dev_fold_depends_on_the_texts_alone() -> None:
    forward = {QUERIES[row] for row in dev_fold(QUERIES, 0.1)}
    backward = {QUERIES[::-1][row] for row in dev_fold(QUERIES[::-1], 0.1)}
    assert forward == backward


# -- blending -----------------------------------------------------------------------------------


def made_predictions(n: int, tuned_noise: float, frozen_noise: float) -> Any:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(n, 1))
    tuned, frozen = (truth + s * rng.normal(size=(n, 1)) for s in (tuned_noise, frozen_noise))
    return tuned, frozen, truth


def test_the_better_prediction_weighs_more() -> None:
    assert blend_weight(*made_predictions(20_000, 0.5, 2.0)) > 0.85
    assert blend_weight(*made_predictions(20_000, 2.0, 0.5)) < 0.15


def test_a_handful_of_queries_says_little() -> None:
    assert blend_weight(*made_predictions(10, 0.01, 5.0)) == pytest.approx(PRIOR_WEIGHT, abs=0.02)


def test_equal_predictions_weigh_alike() -> None:
    tuned, _, truth = made_predictions(50, 1.0, 1.0)
    assert blend_weight(tuned, tuned, truth) == PRIOR_WEIGHT


def test_a_weight_never_leaves_0_to_1() -> None:
    tuned, frozen, truth = made_predictions(5000, 0.0, 1.0)
    assert blend_weight(tuned, frozen, truth + 3 * (tuned - frozen)) == 1.0
    assert blend_weight(tuned, frozen, frozen - 3 * (tuned - frozen)) == 0.0


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", -1, "at least 1"),
        ("patience", 0, "at least 1"),
        ("learning_rate", 0.0, "greater than 0"),
        ("layer_decay", -0.1, "greater than 0"),
        ("dev_share", 1.0, "between 0 and 1"),
        ("dropout", 1.0, r"in \[0, 1\)"),
        ("weight_decay", -1.0, "at least 0"),
        ("frozen_layers", -1, "at least 0"),
        ("precision", "float8", "auto, float32 or bfloat16"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=f"FineTuning: {name} is {rule}; got"):
        FineTuning(**{name: value})


def test_the_papers_recipe_can_be_changed() -> None:
    recipe = FineTuning.paper(epochs=2)
    assert (recipe.epochs, recipe.frozen_layers, recipe.blend) == (2, 0, False)
    assert dataclasses.replace(recipe, blend=True).blend
