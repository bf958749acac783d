"""What it takes to find a promise once the queries are scored.

pytest tests/benchmarks/test_promising.py -m benchmark -s
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from shared_router.deciding.evidence import gather_evidence
from shared_router.deciding.promise import cut_grid, take_look

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("n", [200, 1276, 100_000])
@pytest.mark.parametrize("graded", [False, True])
def test_a_promise_takes_seconds(n: int, graded: bool):
    rng = np.random.default_rng(0)
    scores, large = rng.normal(size=n), (rng.uniform(size=n) < 0.8).astype(float)
    small = np.where(rng.uniform(size=n) < 0.2, 1 - large, large)
    if graded:
        small, large = (np.clip(own + rng.normal(0, 0.1, n), 0, 1) for own in (small, large))
    samples = tuple([np.array([value]) for value in own] for own in (small, large))
    ids, texts = ([f"{kind} {row}" for row in range(n)] for kind in ("query", "text"))
    started = time.process_time()
    grid = cut_grid(rng.normal(size=4000))
    evidence = gather_evidence(ids, texts, scores, samples, (0.0, 1.0))  # type: ignore[arg-type]
    take_look(grid, evidence, relative=True)
    took = time.process_time() - started
    print(f"{evidence.method}, {n:,} queries: {took:.1f} s of CPU")  # noqa: T201
    assert took < 10
