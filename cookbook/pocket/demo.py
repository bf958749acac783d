"""From two models to a routed one, with nothing but this repository: no key, no network.

    make demo          # or: python -m cookbook.pocket.demo

1. Both pocket models answer questions whose right answer is known.
2. A router learns from these, and is calibrated on others.
3. `HybridChatModel` answers new questions: within a promised limit, by its estimate, at a share.
4. The new questions judge the limit: held, broken, or not shown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import warnings
from dataclasses import dataclass, replace
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
from langchain_hybrid import HybridChatModel
from langchain_hybrid.logprobs import logprobs_of
from shared_router import Router, RoutingDataset
from shared_router.collecting.collect import SourceQuery, collect
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import MissingExtraError
from shared_router.judging.match import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable
    from numpy.typing import NDArray

    from shared_router import RoutingDecision, RoutingReport
    from shared_router.records import CallRecord

FOLDER = Path(".demo/pocket")
PAIR = ("small", "large")
LIMIT = 0.05
SETTINGS = {
    f"max_quality_drop={LIMIT:g}, promised": {"max_quality_drop": LIMIT},
    f"max_quality_drop={LIMIT:g}, estimated": {"max_quality_drop": LIMIT, "confidence": "estimate"},
    "cost_advantage=0.6": {"cost_advantage": 0.6},
}
SEED = 7
EXAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class Answered:
    """All new questions, answered once."""

    right: NDArray[np.bool_]
    """Shape (n,)."""
    each_usd: NDArray[np.float64]
    """The nominal price of each call, which is compute, shape (n,)."""
    seconds: float
    """Wall-clock time, routing included."""
    replies: tuple[AIMessage, ...] = ()
    kept: tuple[bool, ...] = ()
    """Whether the small model's answer was given."""
    decisions: tuple[RoutingDecision | None, ...] = ()

    @property
    def usd(self) -> float:
        """The nominal price of all calls."""
        return float(self.each_usd.sum())

    @property
    def quality(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())

    @property
    def cost_advantage(self) -> float:
        """Share of calls kept from the large model."""
        return float(np.mean(self.kept))

    @property
    def usd_per_token(self) -> float:
        """The nominal price of a token, of a model alone."""
        return self.usd / sum(map(_tokens, self.replies))


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
        each_usd=np.array([reply.response_metadata["cost_usd"] for reply in replies]),
        seconds=seconds,
        replies=tuple(replies),
        decisions=tuple(map(_decision, replies)) if routed else (None,) * len(asked),
    )


def with_all_calls(
    run: Answered, records: list[CallRecord], small: Answered, large: Answered
) -> Answered:
    """Count every call of a routed run, those too whose answers were passed on."""
    prices = small.usd_per_token, large.usd_per_token
    records = records[-len(run.replies) :]
    each = [
        sum(
            (tried.usage.input_tokens + tried.usage.output_tokens) * prices[tried.index]
            for tried in record.attempts
            if tried.usage is not None
        )
        for record in records
    ]
    kept = tuple(record.index == 0 for record in records)
    return replace(run, each_usd=np.array(each), kept=kept)


def _tokens(reply: AIMessage) -> int:
    return reply.usage_metadata["total_tokens"] if reply.usage_metadata else 0


def _outcome(run: Answered, at: int) -> Outcome:
    """Make an outcome of what a model answered, with the answer: it may be looked at."""
    logprobs = logprobs_of(run.replies[at])
    return Outcome(
        quality=(float(run.right[at]),),
        response=(run.replies[at].text,),
        logprobs=None if logprobs is None else (logprobs,),
        cost_usd=float(run.each_usd[at]),
    )


def measured(asked: list[Question], small: Answered, large: Answered) -> RoutingDataset:
    """Make a data set of what both models answered to the new questions."""
    records = []
    for at, question in enumerate(asked):
        runs = zip(PAIR, (small, large), strict=True)
        outcomes = {name: _outcome(run, at) for name, run in runs}
        records.append(
            RoutingRecord(id=f"new {at}", query=question.text, split="new", outcomes=outcomes)
        )
    return RoutingDataset(tuple(records), "new questions")


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
    say(f"3. Asking {fresh} new questions: all to small, all to large, and at three settings ...")

    small, large = (PocketChatModel(model_name=name, logprobs=True) for name in PAIR)
    compared = Comparison(asked, answer(small, asked, False), answer(large, asked, False))
    hybrids = {}
    for name, setting in SETTINGS.items():
        records: list[CallRecord] = []
        hybrid = HybridChatModel(
            small=small,
            large=large,
            router=router,
            same_models=True,
            on_call=[records.append],
            **setting,
        )
        routed = answer(hybrid, asked, True)
        hybrids[name] = with_all_calls(routed, records, compared.small, compared.large)
    say(table(compared, hybrids))
    first = next(iter(hybrids))
    say(f"Some of these questions, at {first}:")
    for example in examples(asked, hybrids[first]):
        say(f"  {example}")
    new = measured(asked, compared.small, compared.large)
    report = router.evaluate(new, max_quality_drop=LIMIT)
    say(_closing(folder, picture_of(report, folder / "report.png")))
    say(f"\nVerdict. {sentence_of(report)}")


def sentence_of(report: RoutingReport) -> str:
    """Return the verdict on the line that served."""
    looks = report.second_look or {}
    if looks.get("pays") and "sentence" in looks:
        return str(looks["sentence"])
    return report.verdict.sentence if report.verdict else ""


def picture_of(report: RoutingReport, path: Path) -> str:
    """Draw the report where matplotlib is installed."""
    try:
        report.plot(path)
    except MissingExtraError as missing:
        return f"No picture: {missing}"
    return f"Picture: {path}."


def _closing(folder: Path, picture: str) -> str:
    return (
        "\nPromised: the drop asked for holds with confidence 0.9; where that cannot be shown from "
        "the calibration, all\ngoes to the large model. Estimated: measured, no promise. Cost "
        "advantage: share of calls kept from the large\nmodel. Compute: tokens times parameters. "
        "Seconds: one call after another; the router's few milliseconds are\nmore than models of "
        "this size take, and nothing beside a real one.\n"
        "Looks first: the small model's answer was scored, and given or passed on to the large "
        "one.\n"
        f"{picture} Router: {folder / 'router'}.\n"
        "In your own chain, with your own two models and a router trained on their answers "
        "(hybrid-llm collect, fit,\ncalibrate):\n"
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
