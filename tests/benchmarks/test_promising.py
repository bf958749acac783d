"""What it takes to find a promise once the queries are scored, and to resolve a dial.

pytest tests/benchmarks/test_promising.py -m benchmark -s
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from shared_router.deciding.evidence import gather_evidence
from shared_router.deciding.promise import cut_grid, take_look
from shared_router.options import Asked, Dial
from shared_router.testing import fixed_router
from tests.material import dataset, record

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


def test_calibrating_on_a_hundred_thousand_queries_takes_seconds():
    rng = np.random.default_rng(0)
    scores, large = rng.normal(size=100_000), rng.random(100_000) < 0.8
    small = large & (rng.random(100_000) < 1 / (1 + np.exp(-scores - 2)))
    rows = enumerate(zip(small.tolist(), large.tolist(), strict=True))
    data = dataset(
        *(record(f"q{i}", f"text {i}", small=float(s), large=float(q)) for i, (s, q) in rows)
    )
    router = fixed_router(lambda text: float(scores[int(text.split()[1])]))
    started = time.process_time()
    calibrated = router.calibrate(data)
    took = time.process_time() - started
    print(f"calibrate, 100,000 queries: {took:.1f} s of CPU")  # noqa: T201
    assert took < 10
    dialling, asked = calibrated.dialling(), Asked(Dial("max_quality_drop", 0.02))
    assert dialling.resolve(asked).claim.guarantee == "promised"
    started = time.process_time()
    for _ in range(1000):
        dialling.resolve(asked)
    each = (time.process_time() - started) * 1e3
    print(f"a dial resolved: {each:.0f} microseconds")  # noqa: T201
    assert each < 50
