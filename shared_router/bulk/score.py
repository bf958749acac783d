"""Score a log of queries: each once, with the candidate that a dial chooses.

Scores and decisions are separate here too: the output of one dial is the input of the next, whose
decisions are made from the scores that stand there.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shared_router.bulk.decide import Decider
from shared_router.bulk.meter import Meter
from shared_router.bulk.rows import QueryRows, score_rows
from shared_router.bulk.runner import LocalRunner, as_line
from shared_router.bulk.steady import read_once
from shared_router.data.output import check_regular, replacing
from shared_router.data.targets import check_output
from shared_router.engine.binding import as_router
from shared_router.options import USUAL_CONFIDENCE, Asked, confidence_from
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from shared_router.bulk.meter import Told
    from shared_router.bulk.runner import Row, Runner
    from shared_router.options import Confidence, Dial
    from shared_router.router.router import Router
    from shared_router.router.state import RouterState


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """What a run left behind."""

    out: Path
    """The scores, JSON lines in the order of the queries."""
    queries: int
    """Queries in it."""
    scored: int
    """Queries scored; 0 where they came with their scores and were only decided anew."""
    failed: int
    """Queries whose scoring failed: they go to the reference, with the kind of the error."""
    chosen: dict[str, int]
    """Candidate to number of queries it was chosen for."""
    dial: str
    """Name of the dial."""
    dial_value: float
    """Value of the dial, in the unit its name says."""
    threshold: float
    """The threshold that the dial stands for; infinite where every query goes to the reference.
    Within a task that has its own calibration it stands for another."""
    guarantees: dict[str, int]
    """What holds of the decisions to number of queries: `promised`, `estimated`, `none`, `void`."""
    within: dict[str, int]
    """Task or suite to number of queries whose dial was resolved on its own calibration."""
    router_name: str
    """Name of the router."""
    router_version: str
    """Version of the router, which stands in every line."""
    seconds: float
    """Time the run took, the check of the input included."""

    @property
    def queries_per_second(self) -> float:
        """Rate of the whole run."""
        return self.queries / max(self.seconds, 1e-9)


def score_file(
    router: Router | str | os.PathLike[str],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dial: Dial | None = None,
    confidence: Confidence = USUAL_CONFIDENCE,
    runner: Runner | None = None,
    keep_text: bool = False,
    force: bool = False,
    progress: Told | None = None,
) -> ScoreReport:
    """Score every query of a file, in bounded memory.

    The input is read twice: once to check and count it, so that a bad row is told before the
    work, and once to score it. An input that is an output of this function, for the same router,
    is decided anew and not scored.

    Args:
        router: A router, its folder or its hub name.
        source: Queries as `stream_queries` reads them, or an earlier output.
        out: JSON lines, gzip where it ends in `.gz`; whole or not at all, but for a device or a
            pipe. A line holds `id`,
            `candidate`, `scores` (of each candidate but the reference), `length` in characters,
            `router` (its version), `guarantee` and, if asked for, `text`. Where a task is given or
            told by the text it holds `task`, `task_source` and, where there are such,
            `calibrated_task` and `scored_under`, the label that moved the scores; `with_retrieval`
            where facts of the retrieval did.
        dial: Chooses the candidates; the router's own by default. A limit that cannot be promised
            sends every query to the reference.
        confidence: How sure a limit must be; `estimate` for its estimate.
        runner: Where the work is done; in threads of this process by default.
        keep_text: Whether to write the text of each query.
        force: Whether a file that stands under `out` may be replaced; never the input.
        progress: Called now and then.

    Returns:
        What was done.

    Raises:
        DataError: If a row of the input breaks a rule, the input changes meanwhile, or `out` is
            the input, holds something, or cannot be written.
        ArtifactError: If the router cannot be read.
        NotCalibratedError: If the dial needs a calibration and the router has none.
    """
    started_s = time.monotonic()
    using, path, target = as_router(router), Path(source), Path(out)
    chosen = dial or using.dial
    asked = Asked(chosen, dial is not None, confidence_from(confidence))
    setting = using.dialling().resolve(asked)
    work = ScoreWork(using, asked, keep_text)
    check_regular(path)
    check = partial(check_output, target, [path], force=force, devices=True)
    check()
    rows = score_rows(path, using)
    steady = read_once(rows)  # and every row is checked
    total = steady.first.rows
    tally = _Tally(Meter(total, progress))
    with (
        replacing(target, about_to=lambda _: check()) as lines,
        closing((runner or LocalRunner()).map(work, steady, total)) as scored,
    ):
        for some in scored:
            lines.writelines(as_line(row) + "\n" for row in some)
            tally.add(some)
    return ScoreReport(
        out=target,
        queries=total,
        scored=total if isinstance(rows, QueryRows) else 0,
        failed=tally.failed,
        chosen={name: tally.chosen[name] for name in using.candidates},
        dial=chosen.name,
        dial_value=chosen.value,
        threshold=setting.threshold,
        guarantees=dict(sorted(tally.guarantees.items())),
        within=dict(sorted(tally.within.items())),
        router_name=using.name,
        router_version=using.version,
        seconds=time.monotonic() - started_s,
    )


@dataclass
class _Tally:
    meter: Meter
    chosen: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    guarantees: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def add(self, rows: list[Row]) -> None:
        self.chosen.update(row["candidate"] for row in rows)
        self.within.update(row["calibrated_task"] for row in rows if "calibrated_task" in row)
        self.guarantees.update(row["guarantee"] for row in rows)
        self.failed += sum(row["scores"] is None for row in rows)
        self.meter.add(len(rows), failed=self.failed)


@dataclass(frozen=True)
class ScoreWork:
    """Scores one query, and chooses its candidate."""

    router: RouterState
    asked: Asked
    keep_text: bool = False
    concurrency: int = 1

    def portable(self) -> ScoreWork:
        """Hold the graph itself instead of its path, and nothing that scoring does not need."""
        scorer = self.router.scorer
        if isinstance(scorer, GraphScorer):
            session = GraphSession(scorer.session.bytes, scorer.session.sha256)
            scorer = dataclasses.replace(scorer, session=session)
        bare = dataclasses.replace(
            self.router,
            scorer=scorer,
            train_memory=None,
            fitted_ids=frozenset(),
            calibrated_ids=frozenset(),
            facts={},
        )
        return dataclasses.replace(self, router=bare)

    @contextmanager
    def open(self) -> Iterator[Callable[[Row], Row]]:
        """Give the function of one query; the router is loaded already."""
        yield Decider(self.router, self.asked, keep_text=self.keep_text)
