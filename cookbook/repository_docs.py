"""The recipes' material: this repository's own docs, cut at their headings, and embeddings."""

from __future__ import annotations

import re
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from shared_router.scoring.encoder import load_encoder
from shared_router.scoring.serving import GraphSession, Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent
SOURCES = ("README.md", "CONTRIBUTING.md", "docs/method.md", "docs/figures.md")
_lock = threading.Lock()


def sections() -> list[tuple[str, str]]:
    """Return the docs' sections: where each stands, and its text."""
    found = []
    for source in SOURCES:
        text = (ROOT / source).read_text(encoding="utf-8")
        for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
            if len(part.split()) > 20:
                heading = part.splitlines()[0].strip("# ")
                found.append((f"{source}: {heading}", part.strip()))
    return found


@cache
def _encoder() -> tuple[Tokens, GraphSession]:
    exported = load_encoder("minilm")
    text = exported.tokenizer.read_text(encoding="utf-8")
    return Tokens(text, exported.max_tokens), GraphSession(exported.graph)


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Embed texts with the encoder that the router uses."""
    with _lock:
        tokens, session = _encoder()
    rows = [session.run(["encoded"], tokens.encode(text))[0][0] for text in texts]
    return [row.tolist() for row in rows]
