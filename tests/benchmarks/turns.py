"""Whether a turn is routed as what it refers to, on dialogues built from data sets.

    python -m tests.benchmarks.turns [--half reported|tuned] [--keep DIR]

It reads `routellm_mmlu`, `routellm_gsm8k`, `alpaca_eval` and `structflow_multiturn` in the folder
`HYBRID_LLM_DATA`. A router is fitted on each training split, and calibrated on the validation
split. A dialogue opens with a validation query, the full question, and goes on with one to three
of the follow-ups in `turn_texts`; its last turn is routed at `cost_advantage=0.5`. Agreement is
the share routed as the full question is alone: beside the rule, the last turn alone, and the last
turn with one or two user turns before it. After such a dialogue comes another full question of the
same data set; it agrees where it is routed as alone.

Choices were made on the half `tuned` of queries and of follow-ups.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_router import Router, RoutingDataset
from shared_router.asking.turns import in_context
from shared_router.data.labels import make_labels
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.metrics import trade_off
from shared_router.serving.features import feature_matrix
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.fit import train_on_embeddings
from shared_router.training.term_head import term_matrix
from tests.benchmarks.out_of_fold import FOLDS, folds_of
from tests.benchmarks.routers import data_of, router_of
from tests.benchmarks.turn_texts import ANSWER, REPORTED, TUNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from shared_router.asking.turns import Role

    Said = list[tuple[Role, str]]

PAIRS = {
    "routellm_mmlu": ("mixtral-8x7b", "gpt-4-1106"),
    "routellm_gsm8k": ("mixtral-8x7b", "gpt-4-1106"),
    "alpaca_eval": ("gpt-3.5-turbo-1106", "gpt-4-turbo"),
}
LARGE = ("gpt4o", "claude-3-5-sonnet-20241022", "gemini-1-5-pro", "deepseek-v3")
GROUPS = ("small models", "large models")
RESAMPLES = 300
MOST = 20
"""Openers of each kind, routed large and routed small."""
MOST_BACK = 3
"""Follow-ups in a dialogue, at most."""


@dataclass
class Deciding:
    """Routes texts at one dial; each text is scored once."""

    router: Router
    scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        threshold = self.router.decide("a text", cost_advantage=0.5).threshold
        assert threshold is not None
        self.threshold = threshold

    def score(self, text: str) -> float:
        """Score a message as a call's is: narrowed where it is long."""
        if text not in self.scores:
            self.scores[text] = float(self.router.scored(text, narrow=True).scores[0])
        return self.scores[text]

    def is_large(self, text: str) -> bool:
        """Tell whether a text goes to the large model."""
        return self.score(text) < self.threshold


def with_turns(count: int) -> Callable[[Said], str]:
    """Make a text of the last turn and so many user turns before it."""

    def text(backwards: Said) -> str:
        users = [text for role, text in backwards if role == "user"][: count + 1]
        return "\n\n".join(reversed(users))

    return text


def by_rule(backwards: Said) -> str:
    """Return what the rule scores."""
    found = in_context(backwards)
    assert found is not None
    return found.text


WAYS: dict[str, Callable[[Said], str]] = {
    "the last turn alone": with_turns(0),
    "with one turn": with_turns(1),
    "with two turns": with_turns(2),
    "the rule": by_rule,
}


def dialogue(turns: Iterable[str]) -> Said:
    """Put answers between a user's turns; the newest first."""
    said: Said = []
    for text in turns:
        said += [("user", text), ("assistant", ANSWER)]
    return said[-2::-1]


def openers(deciding: Deciding, data: RoutingDataset, half: str) -> dict[bool, list[str]]:
    """Draw full questions that are routed large, and small, of one half of the queries."""
    queries = [q for q in data.split("validation").queries if (half == "tuned") == _is_first(q)]
    order = np.random.default_rng(0).permutation(len(queries))
    found: dict[bool, list[str]] = {True: [], False: []}
    for at in order:
        found[deciding.is_large(queries[at])].append(queries[at])
    return {large: texts[:MOST] for large, texts in found.items()}


def _is_first(query: str) -> bool:
    return hashlib.sha256(query.encode()).digest()[-1] % 2 == 1


@dataclass
class Agreement:
    """How often dialogues agree with their full question, by way, direction and kind."""

    found: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    kinds: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    fresh: list[bool] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)


def measure(name: str, half: str, keep: Path | None) -> Agreement:
    """Build the dialogues of one data set and route them."""
    deciding = Deciding(router_of(name, PAIRS[name], keep))
    drawn = openers(deciding, data_of(name), half)
    every = drawn[True] + drawn[False]
    follow_ups = TUNED if half == "tuned" else REPORTED
    result = Agreement()
    for at, opener in enumerate(every):
        wanted = deciding.is_large(opener)
        result.first.append(by_rule(dialogue([opener])) == opener)
        for number, (kind, last) in enumerate(follow_ups):
            between = [
                follow_ups[(number * 7 + at * 3 + back * 11) % len(follow_ups)][1]
                for back in range((at + number) % MOST_BACK)
            ]
            said = dialogue([opener, *between, last])
            for way, text_of in WAYS.items():
                agrees = deciding.is_large(text_of(said)) == wanted
                result.found[way, "hard" if wanted else "easy"].append(agrees)
                if way == "the rule":
                    result.kinds[kind].append(agrees)
            if number % 6 == 0:
                other = every[(at + 1 + number) % len(every)]
                text = by_rule(dialogue([opener, *between, last, other]))
                result.fresh.append(deciding.is_large(text) == deciding.is_large(other))
    return result


def table(name: str, result: Agreement) -> str:
    """Write the figures of one data set."""
    lines = [f"== {name}: agreement with the full question's routing (hard, easy, all)"]
    for way in WAYS:
        hard, easy = result.found[way, "hard"], result.found[way, "easy"]
        shares = [np.mean(each) for each in (hard, easy, hard + easy)]
        lines.append(f"  {way:20s} " + "  ".join(f"{share:6.1%}" for share in shares))
    lines.append(f"  dialogues: {sum(map(len, result.kinds.values()))}")
    by_kind = (f"{kind} {np.mean(found):.0%}" for kind, found in result.kinds.items())
    lines.append("  the rule by kind: " + ", ".join(by_kind))
    lines.append(f"  another full question after it: {np.mean(result.fresh):.1%}")
    lines.append(f"  first turns scored as they are: {np.mean(result.first):.1%}")
    return "\n".join(lines)


# -- ranking with and without the earlier turns ---------------------------------------------------


def ranking() -> str:
    """Rank the later turns of real dialogues by each text: APGR, out of fold by dialogue."""
    data = grouped(data_of("structflow_multiturn"))
    turns = [record.query.split("\n\n") for record in data]
    folds = folds_of([each[0] for each in turns])
    later = np.flatnonzero([len(each) > 1 for each in turns])
    quality = data.quality(GROUPS)[later]
    lines = [f"== structflow_multiturn: APGR over {len(later)} later turns"]
    walks = {}
    for way, text_of in {**WAYS, "with all turns": with_turns(99)}.items():
        scores = out_of_fold(data, [text_of(dialogue(each)) for each in turns], folds)
        walks[way] = Walk(Rule("gap", np.array([1.0, 0.0])), scores[later], quality)
    weights = list(resampled_weights(len(later), RESAMPLES))
    alone = [trade_off(walks["the last turn alone"], each).apgr() for each in weights]
    for way, walk in walks.items():
        found = [trade_off(walk, each).apgr() for each in weights]
        leads = [(a or 0.0) - (b or 0.0) for a, b in zip(found, alone, strict=True)]
        low, high = interval(leads) or (0.0, 0.0)
        lines.append(f"  {way:20s} {trade_off(walk).apgr():.3f}  lead [{low:+.3f}, {high:+.3f}]")
    return "\n".join(lines)


def grouped(data: RoutingDataset) -> RoutingDataset:
    """Average quality over small and over large models: one pair's verdict is mostly noise."""

    def one(record: RoutingRecord) -> RoutingRecord:
        by_name = {name: np.mean(each.quality) for name, each in record.outcomes.items()}
        large = [quality for name, quality in by_name.items() if name in LARGE]
        small = [quality for name, quality in by_name.items() if name not in LARGE]
        means = zip(GROUPS, (np.mean(small), np.mean(large)), strict=True)
        outcomes = {name: Outcome(quality=(float(quality),)) for name, quality in means}
        return RoutingRecord(**record.model_dump(exclude={"outcomes"}), outcomes=outcomes)

    return RoutingDataset(tuple(map(one, data)), data.name)


def out_of_fold(
    data: RoutingDataset, texts: list[str], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Score each row by what was trained on other dialogues, on texts made in the same way."""
    records = [r.model_copy(update={"query": t}) for r, t in zip(data, texts, strict=True)]
    rows = RoutingDataset(tuple(records), data.name)
    embeddings, features = embed(load_encoder("minilm"), texts), feature_matrix(texts)
    scores = np.empty((len(texts), 1))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        train = rows.take(inside)
        head = train_on_embeddings(train, make_labels(train, GROUPS), embeddings[inside])
        words = term_matrix([texts[row] for row in outside])
        scores[outside] = head.predict(embeddings[outside], features[outside], terms=words)
    return scores


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("reported", "tuned"), default="reported")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    for name in PAIRS:
        print(table(name, measure(name, asked.half, asked.keep)), flush=True)  # noqa: T201
    print(ranking())  # noqa: T201


if __name__ == "__main__":
    main()
