"""The data, the dollars and the table of the benchmark; and what is claimed of GSM8K."""

from __future__ import annotations

import numpy as np
import pytest

from shared_router import Candidate, Router, RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from tests.benchmarks.second_look.fits import (
    FILES,
    FOLDS,
    WITHOUT,
    File,
    Scores,
    fitted,
    folds_of,
    lines_of,
    pair_of,
    signals_of,
    source_of,
    width_of,
)
from tests.benchmarks.second_look.lines import measure
from tests.benchmarks.second_look.table import Found, Training, table

FILE = File(
    Candidate("small", input_usd_per_million_tokens=1, output_usd_per_million_tokens=2),
    Candidate("large", input_usd_per_million_tokens=10, output_usd_per_million_tokens=20),
)


def dataset(n: int = 20, **small: object) -> RoutingDataset:
    """Make queries of 8 characters; the small model answers in 4, the large one in 40."""
    return RoutingDataset(
        tuple(
            RoutingRecord(
                id=str(at),
                query=f"{at:8d}",
                outcomes={
                    "small": Outcome(quality=(at % 2,), response=("a" * 4,), **small),
                    "large": Outcome(quality=(1.0,), response=("b" * 40,), **small),
                },
            )
            for at in range(n)
        ),
        name="made up",
    )


def test_a_query_is_in_one_fold_of_each_seed_whatever_its_place():
    ids = [f"q{at}" for at in range(200)]
    folds = folds_of(ids, 1)
    assert set(folds.tolist()) == set(range(FOLDS))
    assert folds_of(ids[::-1], 1).tolist() == folds[::-1].tolist()
    assert folds_of(ids, 2).tolist() != folds.tolist()


def test_dollars_are_reckoned_from_the_recorded_texts_where_none_are_recorded():
    data = dataset()
    assert pair_of(data, FILE).cost_usd[0] == pytest.approx([(2 + 2) / 1e6, (20 + 200) / 1e6])
    assert "1/2 and 10/20 USD" in source_of(data, FILE)


def test_recorded_dollars_come_first():
    data = dataset(cost_usd=0.5)
    assert pair_of(data, FILE).cost_usd[0].tolist() == [0.5, 0.5]
    assert source_of(data, FILE) == "recorded"


def test_a_cascade_by_log_probability_needs_one_of_each_answer():
    assert set(signals_of(dataset(), "small")) == {"shorter answers"}
    told = signals_of(dataset(logprobs=((-1.0, -3.0),)), "small")
    assert told["mean log-probability"][0] == -2.0


def test_the_table_tells_what_a_perfect_look_adds_and_which_figures_are_of_development():
    data = dataset(60)
    pair, folds = pair_of(data, FILE), folds_of(data.ids, 0)
    nothing, whole = np.zeros(60), np.ones(60)
    right = pair.quality[:, 0] - 1.0
    scores = {
        share: [Scores(nothing, right, whole, whole, nothing.astype(bool), folds)]
        for share in (0.3, 1.0)
    }
    figures = measure(lines_of(data, pair, scores, "small"), pair, (0.01,), resamples=50)
    assert figures["second look, 100% at most"].aiq_lead[0] > 0
    assert figures["`auto`"].aiq == figures[WITHOUT].aiq
    found = Found(
        name="made up",
        models=("small", "large"),
        n=60,
        mean_cost_usd=(4e-6, 2.2e-4),
        costs="recorded",
        figures=figures,
        training={0.3: Training(1.0, 1.0, 1.0, 0, 5)},
        development="",
    )
    assert "`auto` looks in 0 of 5 fits" in table(found)
    assert "No constant is recorded as chosen" in table(found)


@pytest.mark.data
@pytest.mark.benchmark
def test_another_share_of_looks_moves_the_width_alone(data_folder):
    """So that one fit serves both columns of the table."""
    file = FILES["arena_bench"]
    names = [file.small.name, file.reference.name]
    data = RoutingDataset.load(data_folder / "arena_bench.jsonl.gz")
    data = data.take([at for at, each in enumerate(data) if set(names) <= set(each.outcomes)])
    usual = fitted(data, file, 0)
    free = Router.fit(data, [file.small, file.reference], int8=False, look_share=1.0)
    own = width_of(usual, 1.0)
    assert usual.second_look is not None
    assert free.second_look is not None
    assert (free.second_look.width, free.second_look.pays) == (own.width, own.pays)
    assert free.second_look.scorer.session.sha256 == usual.second_look.scorer.session.sha256
