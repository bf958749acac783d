"""`hybrid-llm collect` over HTTP, killed 20 times: nothing is lost, nothing asked for nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("fastapi")
pytest.importorskip("langchain_openai")

from tests.pocket.killing import check, collect_through_kills

COUNT, KILLS = 60, 20


@pytest.mark.statistical
def test_killed_twenty_times_every_sample_is_recorded_exactly_once(tmp_path):
    found = collect_through_kills(tmp_path, COUNT, KILLS)
    print(found.said)  # noqa: T201
    asked = sum(found.asked.values())
    print(  # noqa: T201
        f"{KILLS} kills, {len(found.asked)} samples, {asked} requests: "
        f"{asked - len(found.asked)} repeated, {found.in_flight} in flight at a kill"
    )
    check(found, COUNT, KILLS)
