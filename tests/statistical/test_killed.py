"""`judge`, `score`, `save_pretrained` and `RoutingDataset.save`, killed 20 times each."""

from __future__ import annotations

import pytest

from tests.bulk.killing import judge_through_kills, score_through_kills
from tests.router.killing_savers import save_through_kills, saved_through_kills

KILLS = 20

pytestmark = [pytest.mark.statistical, pytest.mark.usefixtures("in_tiny_cache")]


def test_judge_asks_nothing_twice_but_what_was_in_flight(tmp_path):
    judge_through_kills(tmp_path, count=600, kills=KILLS)


def test_score_leaves_nothing_half_written(tmp_path):
    score_through_kills(tmp_path, count=1_000, kills=KILLS)


@pytest.mark.parametrize("two_steps", [False, True])
def test_a_router_is_whole_under_its_name(calibrated, tmp_path, two_steps):
    calibrated.save_pretrained(tmp_path / "router")
    save_through_kills(tmp_path / "router", KILLS, two_steps=two_steps)
    assert [path.name for path in tmp_path.iterdir()] == ["router"]


def test_a_data_file_is_whole_under_its_name(tmp_path):
    saved_through_kills(tmp_path, KILLS)
