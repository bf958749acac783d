"""The whole path of the paper on the pocket pair: ask, judge, label, fit, calibrate, measure.

    python -m cookbook.pocket.pipeline            # a quarter of an hour on two cores
    python -m cookbook.pocket.pipeline --write docs/pocket.md

Killed and started again, it goes on: the answers are collected resumably in `.pocket/pipeline`.
Routers learn from `train`, dials are calibrated on `validation`, and everything reported is
measured on fresh questions that neither has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from cookbook.pocket.batches import BatchedModel
from cookbook.pocket.paper_table import Measured, render
from cookbook.pocket.questions import DIFFICULTIES, Question, questions
from shared_router import FineTuning, Router, RoutingDataset
from shared_router.collecting.collect import CollectProgress, SourceQuery, collect
from shared_router.collecting.judges import metric_named
from shared_router.data.labels import LABEL_KINDS
from shared_router.data.output import write_whole

if TYPE_CHECKING:
    from shared_router.data.labels import LabelKind

PAIR = ("small", "large")
JUDGES = ("exact", "chrf")
"""Right or wrong, and partial credit: only graded qualities give `trans` something to relax."""
DROP = 0.01
SEED = 301
TUNING = FineTuning(epochs=8)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is asked, and how."""

    known: int
    """Questions that routers learn from and are calibrated on."""
    fresh: int
    """Other questions, to measure on."""
    samples: int
    """Answers of each model to each question."""
    temperature: float
    folder: Path
    finetune: bool = True
    """Whether a fine-tuned router is measured too, which takes minutes."""
    encoder: str = "minilm"
    """What the routers read questions with."""


def drawn(plan: Plan) -> list[Question]:
    """Draw all questions at once, so that none is in both parts."""
    return questions(plan.known + plan.fresh, seed=SEED)


def source(plan: Plan) -> dict[str, list[SourceQuery]]:
    """Return what to ask, by part."""
    asked = [
        SourceQuery(id=q.id, text=q.text, task=f"pocket/{q.kind}", answer=q.answer)
        for q in drawn(plan)
    ]
    return {"known": asked[: plan.known], "fresh": asked[plan.known :]}


def gathered(plan: Plan, part: str, asked: list[SourceQuery], judge: str) -> RoutingDataset:
    """Ask both models and judge; another judge scores the same answers again."""
    out = plan.folder / f"{part}.jsonl.gz"
    models = {name: BatchedModel(name, temperature=plan.temperature) for name in PAIR}
    report = asyncio.run(
        collect(
            asked,
            models,
            out,
            plan.samples,
            metric_named(judge),
            concurrency=512,
            timeout_s=None,
            specs={name: f"pocket-{name} at {plan.temperature}" for name in PAIR},
            progress=_Ticker(f"{part}, judged by {judge}"),
        )
    )
    if report.failed or report.stopped:
        sys.exit(f"{report.failed} failed; stopped: {report.stopped}")
    return RoutingDataset.load(out)


class _Ticker:
    """Tells of progress now and then, on stderr."""

    def __init__(self, doing: str) -> None:
        self._doing, self._told = doing, 0

    def __call__(self, now: CollectProgress) -> None:
        if now.done - self._told >= now.total / 5 or now.done == now.total:
            self._told = now.done
            rate = f"{now.calls_per_second:.0f}/s"
            print(f"{self._doing}: {now.done}/{now.total} answers, {rate}", file=sys.stderr)


def measured(
    kind: LabelKind,
    known: RoutingDataset,
    fresh: RoutingDataset,
    encoder: str,
    *,
    finetune: bool = False,
) -> Measured:
    """Fit one router, calibrate it, and measure it on fresh questions."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        router = Router.fit(
            known.split("train"), PAIR, kind, encoder=encoder, finetune=finetune and TUNING
        )
    router = router.calibrate(known.split("validation"))
    relaxation = router.facts["training"].get("t")
    return Measured(
        labels=f"{kind}, fine-tuned" if finetune else kind,
        t=relaxation[0] if relaxation else None,
        notes=tuple(str(warning.message) for warning in said),
        report=router.evaluate(fresh, max_quality_drop=DROP, confidence="estimate"),  # the paper's
    )


def run(plan: Plan) -> dict[str, list[Measured]]:
    """Run the path once per judge, and once more where the small model is hopeless."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    asked = source(plan)
    found = {}
    for judge in JUDGES:
        known, fresh = (gathered(plan, part, asked[part], judge) for part in asked)
        found[f"Judged by `{judge}`"] = of_each_kind(plan, known, fresh)
        if plan.finetune:
            tuned = measured("gap", known, fresh, plan.encoder, finetune=True)
            found[f"Judged by `{judge}`"].append(tuned)
    known, fresh = (hardest(plan, data) for data in (known, fresh))
    title = f"Judged by `{JUDGES[-1]}`, difficulty 3 alone"
    found[title] = of_each_kind(plan, known, fresh)
    return found


def of_each_kind(plan: Plan, known: RoutingDataset, fresh: RoutingDataset) -> list[Measured]:
    """Measure one router per kind of label."""
    return [measured(kind, known, fresh, plan.encoder) for kind in LABEL_KINDS]


def hardest(plan: Plan, data: RoutingDataset) -> RoutingDataset:
    """Keep the questions of difficulty 3."""
    hard = {question.id for question in drawn(plan) if question.difficulty == DIFFICULTIES[-1]}
    return data.where(lambda record: record.id in hard)


def main() -> None:
    """Run, print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--known", type=int, default=8000)
    parser.add_argument("--fresh", type=int, default=3000)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--frozen-only", dest="finetune", action="store_false")
    parser.add_argument("--folder", type=Path, default=Path(".pocket/pipeline"))
    parser.add_argument("--write", type=Path, help="write the tables there, in Markdown")
    asked = vars(parser.parse_args())
    target = asked.pop("write")
    torch.set_num_threads(1)
    plan = Plan(**asked)
    text = render(run(plan), plan.known, plan.fresh, plan.samples, plan.temperature)
    Console(markup=False, highlight=False, width=120).print(text)
    if target:
        write_whole(target, text.encode())


if __name__ == "__main__":
    main()
