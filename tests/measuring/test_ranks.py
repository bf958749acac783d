"""Ranks are those of scipy, less one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared_router.measuring.ranks import ranks


@given(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0, 7.0]), min_size=1, max_size=30))
def test_ranks_start_at_zero_and_average_ties(values):
    from scipy.stats import rankdata

    np.testing.assert_array_equal(ranks(np.array(values)), rankdata(values) - 1)
