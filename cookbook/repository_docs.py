"""The recipes' material: this repository's own docs, cut at their headings, and embeddings."""

from __future__ import annotations

import re
import threading
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.serving.session import GraphSession
from shared_router.serving.tokens import Tokens
from shared_router.training.encoder import load_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router import RoutingDecision

ROOT = Path(__file__).parent.parent
SOURCES = ("README.md", "CONTRIBUTING.md", "docs/method.md", "docs/figures.md")
_lock = threading.Lock()


def sections() -> list[tuple[str, str]]:
    """Return the docs' sections: where each stands, and its text."""
    found = []
    for source in SOURCES:
        text = (ROOT / source).read_text(encoding="utf-8")
        for part in re.split(r"^(?=##+ )", text, flags=re.MULTILINE):
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


# -- questions about them, with what two models answered -------------------------------------------

TERMS = ("dial", "threshold", "reference", "encoder", "query source", "cost advantage",
         "guarantee", "candidate")  # fmt: skip
LOOK_UPS = ("What is the {}?", "Where is the {} set?", "Which unit has the {}?")
PAIRS = tuple(zip(TERMS, TERMS[3:] + TERMS[:3], strict=True))
PUZZLES = (
    "If the {} of 31 calls were halved, how would the {} change, and why?",
    "Prove that the {} can never contradict the {}, or give a counterexample.",
    "Compare the {} with the {} step by step and say when each of them fails.",
)
USD = {"small": 0.0001, "large": 0.004}
"""Price of one call."""


def measured() -> RoutingDataset:
    """Return questions on which two models were measured; their answers are replayed.

    The small model is as good on what can be looked up, and not on what has to be reasoned out.
    """
    easy = [(form.format(term), True) for term, form in product(TERMS, LOOK_UPS)]
    hard = [(form.format(*pair), False) for pair, form in product(PAIRS, PUZZLES)]
    both = [pair for two in zip(easy, hard, strict=True) for pair in two]
    return RoutingDataset(tuple(_record(i, *pair) for i, pair in enumerate(both)), "docs")


def _record(position: int, question: str, small_is_good: bool) -> RoutingRecord:
    quality = {"small": float(small_is_good), "large": 1.0}
    outcomes = {
        name: Outcome(
            quality=(quality[name],),
            response=(f"{'right' if quality[name] else 'wrong'} answer of the {name} model",),
            cost_usd=USD[name],
        )
        for name in quality
    }
    split = "train" if (position // 2 + position // 6) % 3 else "validation"
    return RoutingRecord(id=str(position), query=question, split=split, outcomes=outcomes)


def bill(decisions: Sequence[RoutingDecision]) -> str:
    """Say what the calls cost, and what they would have cost without a router."""
    small = sum(decision.candidate == "small" for decision in decisions)
    usd = sum(USD[decision.candidate] for decision in decisions)
    whole = USD["large"] * len(decisions)
    calls = f"{small} of {len(decisions)} calls went to the small model"
    return f"{calls}: {usd:.4f} instead of {whole:.4f} dollars."
