"""Labels against hand-computed values, double sums and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.data.labels import (
    DegenerateLabelWarning,
    find_t,
    gini_mean_difference,
    make_labels,
    win_probability,
)
from shared_router.errors import LabelError
from tests.material import PAIR, dataset, record

DATA = dataset(
    record("a", small=[0.2, 0.6], large=[0.4, 0.8]),
    record("b", small=[0.9, 0.7], large=[0.8, 0.6]),
    record("c", small=[0.0, 0.0], large=[1.0, 1.0]),
)
grades = st.integers(0, 10).map(lambda tenths: tenths / 10)
samples = st.lists(
    st.tuples(st.lists(grades, min_size=2, max_size=4), st.lists(grades, min_size=2, max_size=4)),
    min_size=2,
    max_size=8,
)


def double_sum(values: np.ndarray) -> float:
    return float(np.abs(values[:, None] - values[None, :]).sum() / len(values) ** 2)


def spread(pairs: list[tuple[list[float], list[float]]], t: float) -> float:
    labels = [
        np.mean([reference - small <= t for small in smalls for reference in references])
        for smalls, references in pairs
    ]
    return double_sum(np.array(labels))


def test_gap_is_the_difference_of_means() -> None:
    made = make_labels(DATA, PAIR, "gap")
    np.testing.assert_allclose(made.values[:, 0], [-0.2, 0.1, -1.0])
    assert made.t is None


def test_det_compares_the_first_response_of_each() -> None:
    np.testing.assert_array_equal(make_labels(DATA, PAIR, "det").values[:, 0], [0, 1, 0])


def test_prob_uses_all_pairs() -> None:
    np.testing.assert_allclose(make_labels(DATA, PAIR, "prob").values[:, 0], [0.25, 0.75, 0])


def test_trans_relaxes_by_the_t_that_spreads_the_labels_most() -> None:
    data = dataset(
        record("a", small=[0.5, 0.5], large=[0.75, 0.75]),
        record("b", small=[0.5, 0.25], large=[0.75, 0.75]),
        record("c", small=[0.0, 0.0], large=[1.0, 1.0]),
        record("d", small=[0.0, 0.0], large=[0.75, 1.0]),
    )
    made = make_labels(data, PAIR, "trans")
    assert made.t == (0.5,)
    np.testing.assert_allclose(made.values[:, 0], [1, 1, 0, 0])


def test_several_candidates_have_a_column_each() -> None:
    data = dataset(record("a", s=0.0, m=0.5, l=1.0), record("b", s=1.0, m=0.5, l=0.5))
    made = make_labels(data, ["s", "m", "l"], "gap")
    np.testing.assert_allclose(made.values, [[-1.0, -0.5], [0.5, 0.0]])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array))
def test_gini_mean_difference_is_the_double_sum(values: np.ndarray) -> None:
    assert gini_mean_difference(values) == pytest.approx(double_sum(values), abs=1e-12)


@given(samples)
def test_find_t_beats_every_t_of_a_fine_grid(pairs: list[tuple[list[float], list[float]]]) -> None:
    found = find_t([np.array(s) for s, _ in pairs], [np.array(r) for _, r in pairs])
    best = max(spread(pairs, t) for t in np.linspace(0, 1.05, 211))
    assert found >= 0
    assert spread(pairs, found) >= best - 1e-9


@given(samples)
def test_find_t_is_the_least_of_the_best(pairs: list[tuple[list[float], list[float]]]) -> None:
    found = find_t([np.array(s) for s, _ in pairs], [np.array(r) for _, r in pairs])
    lower = [t for t in np.linspace(0, 1, 101) if t < found - 1e-6]
    assert all(spread(pairs, t) < spread(pairs, found) for t in lower)


@given(samples)
def test_the_labels_made_are_the_labels_searched(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
    smalls, references = ([np.array(p[i]) for p in pairs] for i in (0, 1))
    t = find_t(smalls, references)
    made = [win_probability(s, r, t) for s, r in zip(smalls, references, strict=True)]
    assert gini_mean_difference(np.array(made)) == pytest.approx(spread(pairs, t), abs=1e-12)


def test_find_t_on_many_distinct_values_comes_close() -> None:
    rng = np.random.default_rng(0)
    smalls, references = rng.normal(0, 1, (60, 10)), rng.normal(1, 1, (60, 10))
    found = find_t(list(smalls), list(references))
    pairs = [(list(s), list(r)) for s, r in zip(smalls, references, strict=True)]
    best = max(spread(pairs, t) for t in np.linspace(0, 5, 101))
    assert spread(pairs, found) == pytest.approx(best, rel=0.01)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(LabelError, match="one of gap, det, prob, trans; got 'soft'"):
        make_labels(DATA, PAIR, "soft")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gap", "det"])
def test_labels_of_one_value_are_refused(kind: str) -> None:
    data = dataset(record("a", small=0, large=1), record("b", small=0, large=1))
    with pytest.raises(LabelError, match=f"All 2 `{kind}` labels of 'small' .* nothing to learn"):
        make_labels(data, PAIR, kind)  # type: ignore[arg-type]


def test_prob_of_one_sample_each_is_det_and_says_so() -> None:
    data = dataset(record("a", small=0, large=1), record("b", small=1, large=1))
    with pytest.warns(DegenerateLabelWarning, match="the same as `det`"):
        made = make_labels(data, PAIR, "prob")
    np.testing.assert_array_equal(made.values, make_labels(data, PAIR, "det").values)


def test_trans_of_hard_labels_is_refused() -> None:
    data = dataset(record("a", small=0, large=1), record("b", small=1, large=1))
    with pytest.raises(LabelError, match="`trans` needs several sampled responses"):
        make_labels(data, PAIR, "trans")


def test_trans_that_relaxes_nothing_says_so() -> None:
    data = dataset(record("a", small=[0, 0], large=[1, 1]), record("b", small=[1, 1], large=[1, 1]))
    with pytest.warns(DegenerateLabelWarning, match=r"t\* = 0"):
        made = make_labels(data, PAIR, "trans")
    assert made.t == (0.0,)
