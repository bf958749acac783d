"""Routers that look at answers, fitted once for all tests of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.answering import answered, three_answered
from tests.conftest import tiny_router
from tests.material import PAIR

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import Router, RoutingDataset


@pytest.fixture(scope="session")
def fitted_looking(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Return an uncalibrated router that looks at answers, which tell nearly all."""
    return tiny_router(answered(300), PAIR, tiny_encoder, tiny_cache)


@pytest.fixture(scope="session")
def measured_answers() -> RoutingDataset:
    """Return other queries with recorded answers."""
    return answered(400, split="v", seed=1)


@pytest.fixture(scope="session")
def calibrated_looking(fitted_looking: Router, measured_answers: RoutingDataset) -> Router:
    """Return it calibrated on them, both lines."""
    return fitted_looking.calibrate(measured_answers)


@pytest.fixture(scope="session")
def three_looking(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Return an uncalibrated router of nano, mini and maxi that looks at answers."""
    return tiny_router(three_answered(200), ("nano", "mini", "maxi"), tiny_encoder, tiny_cache)
