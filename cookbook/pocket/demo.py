"""From two models to a routed one, with nothing but this repository: no key, no network.

    make demo          # or: python -m cookbook.pocket.demo

1. Both pocket models answer questions whose right answer is known.
2. A router learns from these, and is calibrated on others.
3. `HybridChatModel` answers new questions at three settings of the dial.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cookbook.pocket.batches import BatchedModel
from cookbook.pocket.chat import PocketChatModel
from cookbook.pocket.questions import Question, questions
from cookbook.pocket.trade_off import Point, plot
from langchain_hybrid import HybridChatModel
from shared_router import Router, RoutingDataset
from shared_router.collecting.collect import SourceQuery, collect
from shared_router.judging.match import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable
    from numpy.typing import NDArray

    from shared_router import RoutingDecision

FOLDER = Path(".demo/pocket")
PAIR = ("small", "large")
DIALS = ({"max_quality_drop": 0.01}, {"max_quality_drop": 0.05}, {"cost_advantage": 0.6})
SEED = 7
EXAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class Answered:
    """All new questions, answered once."""

    right: NDArray[np.bool_]
    """Shape (n,)."""
    usd: float
    """The nominal price of all calls, which is compute."""
    seconds: float
    """Wall-clock time, routing included."""
    decisions: tuple[RoutingDecision | None, ...] = ()

    @property
    def quality(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())

    @property
    def cost_advantage(self) -> float:
        """Share of calls kept from the large model."""
        return float(np.mean([d is not None and d.index == 0 for d in self.decisions]))


def outcomes(asked: list[Question], out: Path) -> RoutingDataset:
    """Ask both models, judge the answers, and read the data file that this leaves."""
    sources = [
        SourceQuery(id=q.id, text=q.text, task=f"pocket/{q.kind}", answer=q.answer) for q in asked
    ]
    models = {name: BatchedModel(name, temperature=0) for name in PAIR}
    asyncio.run(collect(sources, models, out, 1, EXACT, concurrency=512, timeout_s=None))
    return RoutingDataset.load(out)


def answer(model: Runnable[str, AIMessage], asked: list[Question], routed: bool) -> Answered:
    """Ask a model every question, one after another."""
    model.invoke("What is 1 plus 1?")  # loads weights and opens the router's session
    began = time.perf_counter()
    replies = [model.invoke(question.text) for question in asked]
    seconds = time.perf_counter() - began
    return Answered(
        right=np.array([r.text == q.answer for r, q in zip(replies, asked, strict=True)]),
        usd=sum(reply.response_metadata["cost_usd"] for reply in replies),
        seconds=seconds,
        decisions=tuple(map(_decision, replies)) if routed else (None,) * len(asked),
    )


def _decision(reply: AIMessage) -> RoutingDecision:
    from shared_router import RoutingDecision

    return RoutingDecision.model_validate(reply.response_metadata["hybrid_routing"])


class Comparison:
    """What the same share of calls would bring if others chose the questions."""

    def __init__(self, asked: list[Question], small: Answered, large: Answered) -> None:
        self.small, self.large = small, large
        self._lengths = np.array([len(question.text) for question in asked])

    def random(self, share: float) -> float:
        """Expected quality of a coin that sends `share` of all calls to the small model."""
        return share * self.small.quality + (1 - share) * self.large.quality

    def by_length(self, share: float) -> float:
        """Quality of sending the shortest `share` of all questions to the small model."""
        short_first = np.argsort(self._lengths, kind="stable")
        to_small = np.zeros(len(short_first), dtype=bool)
        to_small[short_first[: round(share * len(short_first))]] = True
        return float(np.where(to_small, self.small.right, self.large.right).mean())

    def row(self, name: str, quality: float, share: float, *rest: str) -> list[str]:
        """Lay one line of the table out."""
        drop = 1 - quality / self.large.quality
        shown = [f"{quality:.3f}", f"{100 * drop:.1f} %", f"{100 * share:.1f} %"]
        return [name, *shown, *(rest or ("", ""))]

    def measured(self, name: str, run: Answered, share: float) -> list[str]:
        """Lay the line of a run out, with its compute and seconds."""
        saved = f"{100 * (1 - run.usd / self.large.usd):.1f} %"
        return self.row(name, run.quality, share, saved, f"{run.seconds:.1f}")


def table(compared: Comparison, hybrids: dict[str, Answered]) -> Table:
    """Lay everything out."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("", no_wrap=True)
    for heading in ("right", "quality drop", "cost advantage", "compute saved", "seconds"):
        shown.add_column(heading, justify="right")
    shown.add_row(*compared.measured("all to small", compared.small, 1.0))
    shown.add_row(*compared.measured("all to large", compared.large, 0.0))
    for name, run in hybrids.items():
        share = run.cost_advantage
        shown.add_section()
        shown.add_row(*compared.measured(f"hybrid, {name}", run, share))
        shown.add_row(*compared.row("  query length, same share", compared.by_length(share), share))
        shown.add_row(*compared.row("  random, same share", compared.random(share), share))
    return shown


def examples(asked: list[Question], run: Answered) -> list[str]:
    """Show some questions of each model, with the reason."""
    pairs = [(q, d) for q, d in zip(asked, run.decisions, strict=True) if d is not None]
    chosen = [[pair for pair in pairs if pair[1].index == index][:EXAMPLES] for index in (0, 1)]
    return [f"{q.text}\n    -> {d.summary()}" for group in chosen for q, d in group]


def run(known: int, fresh: int, folder: Path, say: Callable[[object], None]) -> None:
    """Run the demo."""
    drawn = questions(known + fresh, seed=SEED)
    learned, asked = drawn[:known], drawn[known:]
    folder.mkdir(parents=True, exist_ok=True)

    say(f"1. Asking both pocket models {known:,} questions and judging the answers ...")
    data = outcomes(learned, folder / "outcomes.jsonl.gz")
    say("2. Fitting a router on four fifths of them, calibrating it on the rest ...")
    router = Router.fit(data.split("train"), PAIR).calibrate(data.split("validation"))
    router.save_pretrained(folder / "router")
    say(f"3. Asking {fresh} new questions: all to small, all to large, and at three dials ...")

    small, large = PocketChatModel.small(), PocketChatModel.large()
    compared = Comparison(asked, answer(small, asked, False), answer(large, asked, False))
    hybrids = {}
    for dial in DIALS:
        hybrid = HybridChatModel(small=small, large=large, router=router, same_models=True, **dial)
        hybrids[_named(dial)] = answer(hybrid, asked, True)
    say(table(compared, hybrids))
    first = next(iter(hybrids))
    say(f"Some of these questions, at {first}:")
    for example in examples(asked, hybrids[first]):
        say(f"  {example}")
    points = [
        Point(name, hybrid.cost_advantage, hybrid.quality) for name, hybrid in hybrids.items()
    ]
    quality = np.stack([compared.small.right, compared.large.right], axis=1).astype(float)
    plot(router, [question.text for question in asked], quality, points, folder / "trade_off.png")
    say(_closing(folder, router))


def _named(dial: dict[str, float]) -> str:
    ((name, value),) = dial.items()
    return f"{name}={value:g}"


def _closing(folder: Path, router: Router) -> str:
    count = router.curve.n if router.curve else 0
    return (
        "\nCost advantage: share of calls kept from the large model. Compute: tokens times "
        "parameters. Seconds: one\ncall after another; the router's few milliseconds are more than "
        "models of this size take, and nothing\nbeside a real one. A drop asked for is an estimate "
        f"from {count} calibration questions, not a promise.\n"
        f"Trade-off curve: {folder / 'trade_off.png'}. Router: {folder / 'router'}. In your own "
        "chain, with your own\ntwo models and a router trained on their answers (hybrid-llm "
        "collect, fit, calibrate):\n"
        "  from langchain_hybrid import HybridChatModel\n"
        '  model = HybridChatModel(small="ollama:...", large="openai:...", router="my-router")\n'
        '  model.invoke("...", max_quality_drop=0.02)'
    )


def main() -> None:
    """Run the demo as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--known", type=int, default=3000, help="questions to learn from")
    parser.add_argument("--fresh", type=int, default=300, help="new questions to route")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    width = None if sys.stdout.isatty() else 110
    console = Console(markup=False, highlight=False, width=width)
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    run(asked.known, asked.fresh, asked.folder, console.print)


if __name__ == "__main__":
    main()
