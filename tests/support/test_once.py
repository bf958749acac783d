"""What a process says once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from shared_router.support.once import MOST_SAID, warn_once

if TYPE_CHECKING:
    import pytest

LOG = logging.getLogger("hybrid_llm")


def test_the_same_warning_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for said in ("one", "100 % of it", "one", "100 % of it"):
        warn_once(LOG, said)
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "one"),
        ("WARNING", "100 % of it"),
    ]


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(MOST_SAID + 1):
        warn_once(LOG, f"no. {number}")
    caplog.clear()
    warn_once(LOG, f"no. {MOST_SAID}")
    assert not caplog.records
    warn_once(LOG, "no. 0")  # forgotten with all the others
    assert len(caplog.records) == 1
