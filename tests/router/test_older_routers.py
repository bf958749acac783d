"""Routers that earlier versions saved load, score and resolve their dials as they did then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared_router import Router

FOLDERS = sorted((Path(__file__).parent / "older_routers").glob("*/*/"))
INT8_MAY_DIFFER = 0.02
"""Between processors with and without VNNI."""


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_a_router_of_an_earlier_version_is_what_it_was(folder: Path) -> None:
    stored = json.loads((folder.parent / "expected.json").read_text())
    then, router = stored["routers"][folder.name], Router.from_pretrained(folder)
    assert (list(router.candidates), router.version) == (then["candidates"], then["version"])
    assert [router.dial.name, router.dial.value] == then["default"]
    for dial, task, threshold in then["thresholds"]:
        assert router.threshold_of(task, confidence="estimate", **dial) == threshold
    scores = router.score(stored["texts"])
    np.testing.assert_allclose(scores, then["scores"], atol=INT8_MAY_DIFFER)
    assert router.decide("greet the visitor", cost_advantage=0.3).reason == "score"
