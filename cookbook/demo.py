"""Fit a router on real outcomes, judge it on fresh ones, and route real queries.

    make demo DATA=outcomes.jsonl.gz CANDIDATES=small-model,large-model

Everything here is the public API. The router learns from two thirds of the split `train` and is
calibrated on the last third; all figures are of the split `validation`, which it has never seen.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shared_router import HybridRoutingError, Router, RoutingDataset
from shared_router.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router import RoutingReport

FOLDER, PICTURE = Path(".demo/router"), Path(".demo/report.png")
LIMITS, ASKED = (0.01, 0.05, 0.1), 0.05
SHARE = 0.5
EXAMPLES = 6
RESAMPLES = 2  # the intervals at a share of calls are not shown here


class Row(NamedTuple):
    """One line of the table."""

    name: str
    quality: float
    drop: float | None
    cost_advantage: float
    usd: float | None


class ShortToSmall:
    """Scores by length alone, the baseline that any router must beat."""

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Score texts; shape (n, columns)."""
        lengths = [[-float(len(text))] * self._columns for text in texts]
        return np.array(lengths, dtype=np.float32)


class Measure:
    """Measures a router and its baselines on queries that it has not seen."""

    def __init__(self, router: Router, data: RoutingDataset) -> None:
        self.router, self.data = router, data
        self.report = router.evaluate(data, max_quality_drop=ASKED)
        self.quality = list(self.report.quality.values())
        self.cheapest = int(np.argmax(router.rule.savings))
        costs = router.costs_usd or ()
        self.costs = costs if costs and None not in costs else None
        by_length = Router(
            candidates=router.candidates,
            scorer=ShortToSmall(len(router.candidates) - 1),
            labels="prob",
            costs_usd=router.costs_usd,
        )
        self.length = by_length.calibrate(data).curve

    def all_to(self, index: int) -> Row:
        """Send every query to one candidate."""
        reference = index == len(self.quality) - 1
        usd = self.costs[index] if self.costs else None
        name = f"all to {self.router.candidates[index]}"
        return self._row(name, self.quality[index], float(not reference), usd)

    def within(self, limit: float) -> list[Row]:
        """Keep a limit, as promised and as estimated: with how sure, and without."""
        (rung,) = (rung for rung in self.report.ladder if rung["limit"] == limit)
        name, kept = f"router, {rung['dial']}={limit:g}", self.quality[-1]
        rows = []
        for way in ("promised", "estimated"):
            lost, usd = rung[f"{way}_drop"] * abs(kept), rung[f"{way}_usd_per_1000"]
            paid = None if usd is None else usd / 1000
            rows.append(self._row(f"{name}, {way}", kept - lost, rung[f"{way}_share"], paid))
        return rows

    def at_share(self, share: float) -> Row:
        """Keep a share of calls from the reference."""
        found = self.router.evaluate(self.data, resamples=RESAMPLES, cost_advantage=share).dial
        usd = (1 - found["cost_saved"]) * self.costs[-1] if self.costs else None
        name = f"router, cost_advantage={share:g}"
        return self._row(name, found["quality"], found["cost_advantage"], usd)

    def by_length(self, share: float) -> Row:
        """Send the shortest queries to the cheapest candidate, at the same share."""
        quality = np.interp(share, self.length.cost_advantage, self.length.quality)
        return self._row("  query length, same share", float(quality), share, self._mixed(share))

    def by_chance(self, share: float) -> Row:
        """Send queries to the cheapest candidate by chance, at the same share: exact means."""
        quality = share * self.quality[self.cheapest] + (1 - share) * self.quality[-1]
        return self._row("  random, same share", quality, share, self._mixed(share))

    def _mixed(self, share: float) -> float | None:
        if self.costs is None:
            return None
        return share * self.costs[self.cheapest] + (1 - share) * self.costs[-1]

    def _row(self, name: str, quality: float, share: float, usd: float | None) -> Row:
        kept = self.quality[-1]
        drop = (kept - quality) / abs(kept) if self.length.one_sign and kept else None
        return Row(name, quality, drop, share, usd)

    def rows(self) -> list[list[Row]]:
        """Return the lines of the table, in groups."""
        groups = [[self.all_to(index) for index in range(len(self.quality))]]
        for rows in (*map(self.within, LIMITS), [self.at_share(SHARE)]):
            share = rows[-1].cost_advantage
            groups.append([*rows, self.by_length(share), self.by_chance(share)])
        return groups


def table(groups: list[list[Row]]) -> Table:
    """Lay the rows out; dollars only where the data knows costs."""
    dollars = groups[0][0].usd is not None
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("", no_wrap=True)
    for heading in ("quality", "quality drop", "cost advantage"):
        shown.add_column(heading, justify="right")
    if dollars:
        shown.add_column("$ per 1,000 queries", justify="right")
    for group in groups:
        for row in group:
            drop = "-" if row.drop is None else f"{100 * row.drop:.1f} %"
            cells = [row.name, f"{row.quality:.3f}", drop, f"{100 * row.cost_advantage:.1f} %"]
            shown.add_row(*cells, *([f"{1000 * row.usd:.2f}"] if row.usd is not None else []))
        shown.add_section()
    return shown


def examples(router: Router, data: RoutingDataset) -> list[str]:
    """Route queries: the first few that go to another candidate, then to the reference."""
    decided = [
        (query, router.decide(query, max_quality_drop=ASKED)) for query in data.queries[:100]
    ]
    reference = len(router.candidates) - 1
    away = [pair for pair in decided if pair[1].index != reference][: EXAMPLES // 2]
    kept = [pair for pair in decided if pair[1].index == reference][: EXAMPLES - len(away)]
    return [f"{_short(query)}\n    -> {decision.summary()}" for query, decision in away + kept]


def _short(query: str, most: int = 90) -> str:
    line = " ".join(query.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def candidates_of(data: RoutingDataset, named: str | None) -> list[str]:
    """Return the candidates asked for, or the two models of the file; the better one is last."""
    if named:
        return named.split(",")
    if len(data.models) != 2:
        sys.exit(
            f"{data.name} has {len(data.models)} models: {', '.join(data.models)}.\n"
            "Name two or more with CANDIDATES=small,...,large; the last is the reference."
        )
    quality = data.candidates(data.models).quality(data.models).mean(axis=0)
    return [data.models[i] for i in np.argsort(quality)]


def parted(train: RoutingDataset) -> tuple[RoutingDataset, RoutingDataset]:
    """Part queries into those that are fitted on and every third, which is calibrated on."""
    last = set(train.ids[2::3])
    return tuple(train.where(lambda r, own=own: (r.id in last) == own) for own in (False, True))


def run(path: str, named: str | None, console: Console) -> None:
    """Run the demo."""
    data = RoutingDataset.load(path)
    candidates = candidates_of(data, named)
    data = data.candidates(candidates)
    (train, labels), fresh = parted(data.split("train")), data.split("validation")
    console.print(
        f"{data.name}: fitting on {len(train)} queries for {' | '.join(candidates)}, calibrating "
        f"on {len(labels)} others ..."
    )
    router = Router.fit(train, candidates).calibrate(labels)
    router.save_pretrained(FOLDER)
    measure = Measure(router, fresh)
    console.print(f"\nMeasured on {measure.report.n} fresh queries:")
    console.print(table(measure.rows()))
    console.print(
        "Promised: the drop asked for holds with confidence 0.9, and where that cannot be shown "
        "from the\ncalibration, all goes to the reference. Estimated: measured, no promise. Cost "
        "advantage: share of calls\nkept from the reference."
    )
    console.print(f"\nSome of these queries, routed at max_quality_drop={ASKED:g}:")
    for example in examples(router, fresh):
        console.print(f"  {example}")
    console.print(
        f"\nSaved in {FOLDER}. In your chain:\n"
        "  from langchain_hybrid import HybridChatModel\n"
        f'  model = HybridChatModel(small="ollama:...", large="openai:...", router="{FOLDER}")\n'
        '  model.invoke("...", config={"configurable": {"hybrid_max_quality_drop": 0.05}})'
    )
    console.print(f"\n{drawn(measure.report)}\n\nVerdict. {measure.report.verdict.sentence}")


def drawn(report: RoutingReport) -> str:
    """Draw the report where matplotlib is installed."""
    try:
        report.plot(PICTURE)
    except MissingExtraError as missing:
        return f"No picture: {missing}"
    return f"Picture: {PICTURE}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="JSON lines with the splits `train` and `validation`")
    parser.add_argument(
        "--candidates", metavar="A,...,REFERENCE", help="models, the large one last"
    )
    asked = parser.parse_args()
    width = None if sys.stdout.isatty() else 110
    console = Console(markup=False, highlight=False, width=width)
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        run(asked.data, asked.candidates, console)
    except HybridRoutingError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
