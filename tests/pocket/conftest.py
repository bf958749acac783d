"""The pocket pair on 127.0.0.1, and questions for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from cookbook.pocket.questions import questions
from cookbook.pocket.server import pocket_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the pair; return the base URL."""
    with pocket_server() as served:
        yield served


@pytest.fixture(scope="session")
def asked() -> list[str]:
    """Return a few questions."""
    return [question.text for question in questions(12, seed=7)]
