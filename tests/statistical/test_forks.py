"""A hundred forks during the first score of a process: every child scores."""

from __future__ import annotations

import pytest

from tests.support.test_processes import forking, forks


@forking
@pytest.mark.statistical
def test_a_hundred_forks_during_the_first_score() -> None:
    assert forks(100, "decide") == 100
