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
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_router import Router, RoutingDataset
from shared_router.asking.turns import in_context
from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.metrics import trade_off
from tests.benchmarks.turn_texts import ANSWER, REPORTED, TUNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shared_router.asking.turns import Role

    Said = list[tuple[Role, str]]

PAIRS = {
    "routellm_mmlu": ("mixtral-8x7b", "gpt-4-1106"),
    "routellm_gsm8k": ("mixtral-8x7b", "gpt-4-1106"),
    "alpaca_eval": ("gpt-3.5-turbo-1106", "gpt-4-turbo"),
}
TURNS = ("structflow_multiturn", ("mistral-7b-instruct-v0-3", "gpt4o"))
MOST = 20
"""Openers of each kind, routed large and routed small."""
MOST_BACK = 3
"""Follow-ups in a dialogue, at most."""


def data_of(name: str) -> RoutingDataset:
    """Read a data set."""
    return RoutingDataset.load(Path(os.environ["HYBRID_LLM_DATA"]) / f"{name}.jsonl.gz")


def router_of(name: str, candidates: Sequence[str], keep: Path | None) -> Router:
    """Fit a router on the training split, or read the one that was kept."""
    folder = keep / name if keep else None
    if folder is not None and folder.is_dir():
        return Router.from_pretrained(folder)
    data = data_of(name)
    router = Router.fit(data.split("train"), candidates=list(candidates))
    router = router.calibrate(data.split("validation"))
    if folder is not None:
        router.save_pretrained(folder)
    return router


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


def ranking(keep: Path | None) -> str:
    """Rank the turns of real dialogues by each text: APGR over all later turns, out of sample."""
    name, pair = TURNS
    data = data_of(name).candidates(list(pair))
    router = router_of(name, pair, keep)
    ids = router.fitted_ids
    later = data.where(lambda r: r.id not in ids and "\n\n" in r.query)
    quality = later.quality(list(pair))
    ways = {
        "the last turn alone": with_turns(0),
        "with one turn": with_turns(1),
        "with two turns": with_turns(2),
        "with all turns": with_turns(99),
        "the rule": by_rule,
    }
    rule = Rule("gap", np.array([1.0, 0.0]))
    lines = [f"== {name}: APGR over {len(later)} later turns"]
    for way, text_of in ways.items():
        texts = [text_of(dialogue(query.split("\n\n"))) for query in later.queries]
        scores = np.array([router.scored(text, narrow=True).scores for text in texts])
        walk = Walk(rule, scores, quality)
        whole = trade_off(walk).apgr
        samples = [trade_off(walk, weights).apgr for weights in resampled_weights(len(later), 300)]
        span = interval([each for each in samples if each is not None])
        lines.append(f"  {way:20s} {whole:.3f} {span}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("reported", "tuned"), default="reported")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    for name in PAIRS:
        print(table(name, measure(name, asked.half, asked.keep)), flush=True)  # noqa: T201
    print(ranking(asked.keep))  # noqa: T201


if __name__ == "__main__":
    main()
