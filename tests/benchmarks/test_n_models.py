"""What is claimed of many models, of tasks and of a new candidate holds on RouterBench.

pytest tests/benchmarks/test_n_models.py -m benchmark -s
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router.measuring.evaluation import OutcomeTable
from shared_router.measuring.task_figures import figures_by_task
from shared_router.options import Dial
from tests.benchmarks.n_models import compare, models_by_cost, show
from tests.benchmarks.new_candidate import aiqs, column_of
from tests.benchmarks.out_of_fold import OutOfFold, out_of_fold
from tests.benchmarks.task_aware import keyed_by_task, rule_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.benchmark, pytest.mark.data]


@pytest.fixture(scope="module")
def found(data_folder: Path) -> OutOfFold:
    path = str(data_folder / "routerbench_zeroshot.jsonl.gz")
    return out_of_fold(path, models_by_cost(path))


def test_eleven_models_beat_every_single_one_their_hull_and_random_mixtures(found):
    compared = compare(found, resamples=200)
    print(show(compared))  # noqa: T201
    router, report = compared.found["router"]["aiq"], compared.found
    assert router > max(own["aiq"] for own in report["candidates"].values())
    for name in ("random", "query_length", "single_models"):
        assert report["baselines"][name]["router_lead_aiq"][0] > 0
    assert report["baselines"]["oracle"]["router_lead_aiq"][1] < 0
    assert compared.unhulled > report["baselines"]["single_models"]["aiq"]


def test_a_dial_by_task_holds_nearer_within_each_task(found):
    pair = found.pair("yi-34b-chat")
    keyed, curves = keyed_by_task(pair, rule_of(pair))
    outcomes = OutcomeTable(pair.data.queries, pair.quality)
    drop = Dial("max_quality_drop", 0.05)
    figures = figures_by_task(drop, rule_of(pair), keyed, outcomes, None, curves)
    apart = {
        way: np.max([abs(own["quality_drop"] - 0.05) for own in figures[way]["tasks"].values()])
        for way in ("one_threshold", "by_task")
    }
    print(apart)  # noqa: T201
    assert apart["by_task"] < apart["one_threshold"]


def test_a_few_hundred_outcomes_of_a_new_model_are_worth_having(found):
    new = found.names.index("yi-34b-chat")
    columns = {"300": column_of(found, new, 300), "full refit": found.plain[:, new]}
    measured = aiqs(found, new, columns, resamples=200)
    print(measured)  # noqa: T201
    assert measured["without"][0] < measured["300"][0] < measured["full refit"][0]
    assert measured["300"][1][0] > 0
