"""The data sets, what a call costs on them, and routers fitted on four folds of five."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router import Candidate, Router, RoutingDataset
from shared_router.data.costs import CHARACTERS_PER_TOKEN
from shared_router.data.draws import logprobs_of
from shared_router.serving.answers import Answered
from shared_router.training.look_width import Width, choose_width
from tests.benchmarks.second_look.lines import LookLine, Pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tests.benchmarks.second_look.lines import Floats

FOLDS, SEEDS = 5, (0, 1, 2)
SHARES = (0.3, 1.0)
"""Of queries that training may look at: the default, and no limit."""
WITHOUT = "the query alone"


@dataclass(frozen=True)
class File:
    """A data set, the two models that are compared on it, and how."""

    small: Candidate
    """Its prices are used where the data record no costs."""
    reference: Candidate
    drops: tuple[float, ...] = (0.01, 0.02, 0.05)
    development: str = ""
    """What was chosen on these very queries."""


def _model(name: str, read: float, written: float) -> Candidate:
    return Candidate(name, input_usd_per_million_tokens=read, output_usd_per_million_tokens=written)


FILES = {
    "routellm_gsm8k": File(
        _model("mixtral-8x7b", 0.6, 0.6),
        _model("gpt-4-1106", 10, 30),
        development="the heads' constants, and that answers are read at all",
    ),
    "ifeval_multilingual": File(
        _model("claude-3-haiku-20240307", 0.25, 1.25), _model("claude-3-5-sonnet-20240620", 3, 15)
    ),
    "routerbench_zeroshot": File(
        _model("mixtral-8x7b-chat", 0.6, 0.6),
        _model("gpt-4-1106-preview", 10, 30),
        development="the heads' constants",
    ),
    "arena_bench": File(
        _model("mixtral-8x7b-instruct-v0.1", 0.6, 0.6), _model("gpt-4-turbo", 10, 30), (0.05,)
    ),
}


def folds_of(ids: Iterable[str], seed: int) -> NDArray[np.intp]:
    """Deal queries to folds by a hash of their ids."""
    digests = (hashlib.sha256(f"{seed}:{each}".encode()).digest() for each in ids)
    return np.array([int.from_bytes(digest[:8]) % FOLDS for digest in digests])


def pair_of(data: RoutingDataset, file: File) -> Pair:
    """Take the qualities and the dollars of both models, on every query."""
    models = (file.small, file.reference)
    names = [model.name for model in models]
    recorded = data.costs_usd(names)
    return Pair(data.quality(names), _priced(data, models) if recorded is None else recorded)


def _priced(data: RoutingDataset, models: Sequence[Candidate]) -> Floats:
    asked = np.array([len(query) for query in data.queries]) / CHARACTERS_PER_TOKEN
    written = [
        np.array([len(text) for text in answers_of(data, each.name)]) / CHARACTERS_PER_TOKEN
        for each in models
    ]
    return np.column_stack(
        [
            [each.call_usd(*tokens) for tokens in zip(asked, answer, strict=True)]
            for each, answer in zip(models, written, strict=True)
        ]
    )


def source_of(data: RoutingDataset, file: File) -> str:
    """Say where the dollars come from."""
    models = (file.small, file.reference)
    if data.costs_usd([model.name for model in models]) is not None:
        return "recorded"
    prices = (
        f"{model.input_usd_per_million_tokens:g}/{model.output_usd_per_million_tokens:g}"
        for model in models
    )
    return f"{' and '.join(prices)} USD a million tokens read/written, 4 characters a token"


def answers_of(data: RoutingDataset, name: str) -> list[str]:
    """Take the first recorded answer of a model to each query."""
    return [(record.outcomes[name].response or ("",))[0] for record in data]


@dataclass(frozen=True)
class Scores:
    """One seed's held-out folds, pooled: each query as a router scored it that had not seen it."""

    before: Floats
    """From the query, shape (n,)."""
    answer: Floats
    """From the query and the answer, shape (n,)."""
    after: Floats
    """What accepting saves after a look, over before, shape (n,)."""
    width: Floats
    """Of the band, as each fold's training chose it, shape (n,)."""
    pays: NDArray[np.bool_]
    """Whether `auto` looks, as each fold's training decided, shape (n,)."""
    folds: NDArray[np.intp]
    """Shape (n,)."""

    def by_fit(self, values: Floats | NDArray[np.bool_]) -> list[float]:
        """Take what each fold's training decided, one number a fold."""
        return [float(values[self.folds == fold][0]) for fold in range(FOLDS)]

    def line(self, pair: Pair, width: Floats | None = None) -> LookLine:
        """Build the line of a width per query; the trained one where `None`."""
        width = self.width if width is None else width
        low, high = self.before - width, self.before + width
        return LookLine(pair, high, np.clip(self.answer / self.after, low, high), low)


def out_of_fold(data: RoutingDataset, file: File, seed: int) -> dict[float, Scores]:
    """Fit five routers and score what each has not seen, with the width of each share."""
    folds = folds_of(data.ids, seed)
    scores = np.empty((3, len(data)))
    chosen = {share: np.empty((2, len(data))) for share in SHARES}
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        router = fitted(data.take(inside), file, seed)
        scores[:, outside] = _held_out(router, data.take(outside))
        for share, own in chosen.items():
            width = width_of(router, share)
            own[:, outside] = [[width.width], [width.pays]]
    return {
        share: Scores(*scores, own[0], own[1].astype(bool), folds) for share, own in chosen.items()
    }


def fitted(data: RoutingDataset, file: File, seed: int) -> Router:
    """Fit a router that looks; in float32, which ranks as int8 does and is fitted sooner."""
    return Router.fit(data, [file.small, file.reference], int8=False, seed=seed)


def width_of(router: Router, look_share: float) -> Width:
    """Choose the width as training does with another `look_share`: it moves nothing else."""
    looks, costs = router.second_look, np.array(router.costs_usd, dtype=np.float64)
    assert looks is not None
    assert looks.pairs is not None
    return choose_width(looks.pairs, looks.band(router.rule), costs, look_share)


def _held_out(router: Router, data: RoutingDataset) -> Floats:
    """Score queries, then the answers to them by the served graph, shape (3, n)."""
    small, looks = router.candidates[0], router.second_look
    assert looks is not None
    given = [
        Answered(record.query, text, logprobs_of(record.outcomes[small]))
        for record, text in zip(data, answers_of(data, small), strict=True)
    ]
    answers = looks.scorer.score(given)[:, 0]
    return np.array([router.score(data.queries)[:, 0], answers, np.full(len(data), looks.after)])


def lines_of(
    data: RoutingDataset, pair: Pair, found: Mapping[float, Sequence[Scores]], small: str
) -> dict[str, list[LookLine]]:
    """Build every line that is compared, one a seed, the query alone first."""
    n, own = len(data), found[SHARES[0]]
    lines = {WITHOUT: [each.line(pair, np.zeros(n)) for each in own]}
    for share, scores in found.items():
        lines[f"second look, {share:.0%} at most"] = [each.line(pair) for each in scores]
    lines["`auto`"] = [each.line(pair, np.where(each.pays, each.width, 0.0)) for each in own]
    lines["cascade: the answer's score"] = [LookLine.cascade(pair, each.answer) for each in own]
    for name, signal in signals_of(data, small).items():
        lines[f"cascade: {name}"] = [LookLine.cascade(pair, signal)]
    lines["a coin"] = [LookLine.unseen(pair, np.zeros(n))]
    return lines


def signals_of(data: RoutingDataset, small: str) -> dict[str, Floats]:
    """Take what cascades without training go by: higher = given."""
    found = {"shorter answers": -np.array([float(len(text)) for text in answers_of(data, small)])}
    told = [logprobs_of(record.outcomes[small]) for record in data]
    if all(told):
        found["mean log-probability"] = np.array([float(np.mean(each or 0)) for each in told])
    return found
