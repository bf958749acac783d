"""`hybrid-llm collect` over HTTP, killed and resumed; tests/statistical kills it 20 times."""

from __future__ import annotations

from tests.pocket.killing import check, collect_through_kills


def test_killed_and_resumed_every_sample_is_recorded_exactly_once(tmp_path):
    check(collect_through_kills(tmp_path, count=12, kills=3), count=12, kills=3)
