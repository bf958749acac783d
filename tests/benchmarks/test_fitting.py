"""Fitting takes little longer than embedding the texts: both measured in one run, no cache."""

from __future__ import annotations

import time

import pytest

from shared_router import Router, RoutingDataset
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder

pytestmark = [pytest.mark.benchmark, pytest.mark.data]

MOST = 1.3


@pytest.mark.parametrize("file", ["routellm_gsm8k", "routellm_mmlu"])
def test_fit_takes_at_most_a_third_more_than_embedding(file, data_folder):
    data = RoutingDataset.load(data_folder / f"{file}.jsonl.gz").split("train")
    encoder = load_encoder("minilm")

    def embedding() -> float:
        started = time.perf_counter()
        embed(encoder, data.queries, cache=False)
        return time.perf_counter() - started

    before = embedding()
    started = time.perf_counter()
    Router.fit(data, ["mixtral-8x7b", "gpt-4-1106"], cache=False, int8=False)
    fitting = time.perf_counter() - started
    ratio = fitting / ((before + embedding()) / 2)
    print(f"{file}: {len(data)} queries, fit / embed = {ratio:.2f}")  # noqa: T201
    assert ratio <= MOST
