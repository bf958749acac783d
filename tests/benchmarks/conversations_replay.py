"""Long sessions replayed: what staying and switching cost, and what they give.

    python -m tests.benchmarks.conversations_replay [--keep DIR] [--sessions N]

It reads `routellm_gsm8k`, `alpaca_eval` and `routellm_mmlu` in the folder `HYBRID_LLM_DATA`. A
router is fitted on each training split and calibrated on the validation split, whose queries, with
the measured quality of their answers, make up the sessions; the dial is `cost_advantage=0.5`.

A session is a chat (2,000 tokens of instructions and tools, answers of about 300 tokens, one call
a turn), an agent's (12,000 tokens, one to twelve calls a turn, 800 tokens of a tool's answer before
each but the first), or talk about a document (60,000 tokens, answers of about 150). A turn follows
up on the question before with probability 0.6, scored as that one or, one time in ten, as another;
else it asks a new one. Between turns pass 60 seconds in the median, with a long tail.

Each provider's cache holds what its model last read, for its lifetime; a model that is left stays
in its cache. Nothing is billed for writing a cache. The turns that a switch must pay itself within
were chosen on half of the sessions, and the other half is shown.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_router import Candidate
from shared_router.deciding.conversation import (
    LEAST_CACHED,
    TURNS_AHEAD,
    Answering,
    Conversation,
    Prices,
    prices_of,
    weigh,
)
from shared_router.measuring.bootstrap import interval, resampled_weights
from tests.benchmarks.routers import data_of, router_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DATA = {
    "routellm_gsm8k": ("mixtral-8x7b", "gpt-4-1106"),
    "alpaca_eval": ("gpt-3.5-turbo-1106", "gpt-4-turbo"),
    "routellm_mmlu": ("mixtral-8x7b", "gpt-4-1106"),
}
PRICES = {"1/5 and 5/25": ((1.0, 5.0), (5.0, 25.0)), "3/15 and 5/25": ((3.0, 15.0), (5.0, 25.0))}
"""Dollars per million tokens read / written, of the small model and of the large one; a cached
token is a tenth of one read, for five minutes."""
KINDS = {"chat": (2_000, 1, 300), "agent": (12_000, 12, 300), "document": (60_000, 1, 150)}
"""Tokens before the first turn, most calls a turn, and tokens of an answer in the median."""
FOLLOWS, ASTRAY, TOOL_TOKENS, ASKED_TOKENS = 0.6, 0.1, 800, 120
Measured = tuple[float, float, float, tuple[float, float] | None]
"""Dollars in those of `auto`, quality, switches a session, and the dollars' interval."""
RESAMPLES = 300
AHEAD = (1, 2, 4, 8)
"""Turns that a switch must pay itself within, as tried."""


@dataclass(frozen=True)
class Turn:
    """One turn of a session."""

    easy: bool
    """Whether the score asks for the small model."""
    quality: tuple[float, float]
    """Of the small model's answer, and of the large one's."""
    calls: int
    answer_tokens: int
    pause_s: float


@dataclass(frozen=True)
class Session:
    """A conversation."""

    start_tokens: int
    turns: tuple[Turn, ...]


@dataclass
class Billing:
    """Two models' caches, and what was paid."""

    prices: tuple[Prices, ...]
    held: list[int] = field(default_factory=lambda: [0, 0])
    read_s: list[float] = field(default_factory=lambda: [-1e9, -1e9])
    usd: float = 0.0

    def call(self, at: int, history: int, answer: int, now_s: float) -> None:
        """Bill one call."""
        price = self.prices[at]
        warm = now_s - self.read_s[at] < price.lifetime_s and history >= LEAST_CACHED
        cached = min(self.held[at], history) if warm else 0
        self.usd += cached * price.cached + (history - cached) * price.read + answer * price.written
        self.held[at], self.read_s[at] = history + answer, now_s


def by_score(turn: Turn, *_: object) -> int:
    """Follow the score, turn by turn."""
    return 0 if turn.easy else 1


def never(*_: object) -> int:
    """Stay with the large model from the beginning."""
    return 1


def keep(turn: Turn, before: int | None, *_: object) -> int:
    """Decide once."""
    return by_score(turn) if before is None else before


def auto(turns_ahead: int) -> Callable[..., int]:
    """Weigh switches to the small model, as `conversation="auto"` does."""

    def rule(
        turn: Turn, before: int | None, so_far: Conversation, prices: tuple[Prices, ...]
    ) -> int:
        wanted = by_score(turn)
        if before is None or wanted >= before:
            return wanted
        return wanted if weigh(prices[before], prices[wanted], so_far, turns_ahead).pays else before

    return rule


def replayed(
    session: Session, rule: Callable[..., int], prices: tuple[Prices, ...]
) -> tuple[float, float, int]:
    """Replay a session: what was paid, the sum of qualities, and how often it switched."""
    billing, history, now_s = Billing(prices), session.start_tokens, 0.0
    before: int | None = None
    quality, switches, answers, idle_s = 0.0, 0, [300], 0.0
    calls: list[int] = []
    for turn in session.turns:
        mean_calls = sum(calls) / len(calls) if calls else 1.0
        so_far = Conversation(
            answering=None if before is None else Answering(candidate=str(before)),
            is_later=before is not None,
            history_tokens=history,
            new_tokens=ASKED_TOKENS + int((mean_calls - 1) * TOOL_TOKENS),
            answer_tokens=sum(answers[-8:]) // len(answers[-8:]),
            calls=mean_calls,
            idle_s=idle_s,
        )
        at = rule(turn, before, so_far, prices)
        switches += before is not None and at != before
        history += ASKED_TOKENS
        for call in range(turn.calls):
            history += TOOL_TOKENS if call else 0
            billing.call(at, history, turn.answer_tokens, now_s)
            history += turn.answer_tokens
            now_s += 5.0
            answers.append(turn.answer_tokens)
        calls.append(turn.calls)
        quality += turn.quality[at]
        before, idle_s = at, turn.pause_s
        now_s += turn.pause_s
    return billing.usd, quality, switches


def sessions_of(
    easy: Sequence[bool], quality: Sequence[tuple[float, float]], n: int, kind: str, seed: int
) -> list[Session]:
    """Make sessions of queries."""
    rng = np.random.default_rng(seed)
    start, most, long = KINDS[kind]
    made = []
    for _ in range(n):
        question, turns = int(rng.integers(len(easy))), []
        for at in range(1 + int(rng.geometric(1 / 12))):
            scored = question
            if at and rng.random() < FOLLOWS:
                scored = int(rng.integers(len(easy))) if rng.random() < ASTRAY else question
            elif at:
                question = scored = int(rng.integers(len(easy)))
            turns.append(
                Turn(
                    bool(easy[scored]),
                    quality[question],
                    int(rng.integers(1, most + 1)),
                    int(rng.lognormal(np.log(long), 0.8)),
                    float(rng.lognormal(np.log(60), 1.2)),
                )
            )
        made.append(Session(start, tuple(turns)))
    return made


def measured(
    sessions: Sequence[Session], rules: dict[str, Callable[..., int]], prices: tuple[Prices, ...]
) -> dict[str, Measured]:
    """Per rule: dollars in those of `auto` with their interval, quality, switches a session."""
    turns = sum(len(session.turns) for session in sessions)
    found = {
        name: np.array([replayed(s, rule, prices) for s in sessions])
        for name, rule in rules.items()
    }
    base = found["auto"][:, 0]
    weights = list(resampled_weights(len(sessions), RESAMPLES))
    return {
        name: (
            float(rows[:, 0].sum() / base.sum()),
            float(rows[:, 1].sum() / turns),
            float(rows[:, 2].mean()),
            interval([float((w @ rows[:, 0]) / (w @ base)) for w in weights]),
        )
        for name, rows in found.items()
    }


def shown(found: dict[str, Measured]) -> str:
    """Format what was measured."""
    lines = []
    for rule, (cost, good, switches, span) in found.items():
        low, high = span or (cost, cost)
        lines.append(
            f"  {rule:9s} cost {cost:.3f} [{low:.3f}, {high:.3f}]  quality {good:.4f}  "
            f"switches {switches:.2f}"
        )
    return "\n".join(lines)


def compared(every: Sequence[Session], prices: tuple[Prices, ...]) -> str:
    """Compare the rules on one half of the sessions, and turns ahead on the other."""
    own = {"auto": auto(TURNS_AHEAD)}
    tuned = {n: measured(every[::2], own | {"n": auto(n)}, prices)["n"][0] for n in AHEAD}
    rules = own | {"never": never, "by score": by_score, "keep": keep}
    ahead = ", ".join(f"{n}: {cost:.4f}" for n, cost in tuned.items())
    found = measured(every[1::2], rules, prices)
    return f"  cost by turns ahead: {ahead}\n{shown(found)}\n  {mixed(found)}"


def mixed(found: dict[str, Measured]) -> str:
    """Say what `auto`'s quality costs by a coin between following the score and staying large."""
    (score, low, *_), (large, high, *_) = found["by score"], found["never"]
    share = (found["auto"][1] - low) / (high - low) if high != low else 0.0
    return f"the same quality by a mix of by score and never: {score + share * (large - score):.3f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, default=None)
    parser.add_argument("--sessions", type=int, default=2000)
    asked = parser.parse_args()
    for name, pair in DATA.items():
        router = router_of(name, pair, asked.keep)
        data = data_of(name).split("validation").candidates(pair)
        scores = router.score(data.queries)[:, 0]
        easy = (scores >= router.threshold_of(cost_advantage=0.5)).tolist()
        quality = [(float(a), float(b)) for a, b in data.quality(list(pair))]
        for kind in KINDS:
            every = sessions_of(easy, quality, asked.sessions, kind, seed=17)
            for told, prices in PRICES.items():
                models = [
                    Candidate(
                        model, input_usd_per_million_tokens=read, output_usd_per_million_tokens=out
                    )
                    for model, (read, out) in zip(pair, prices, strict=True)
                ]
                table = compared(every, prices_of(models, None))
                sys.stdout.write(f"{name}, {kind}, {told}\n{table}\n")


if __name__ == "__main__":
    main()
