"""What a look at the cheaper model's answer buys in dollars, on recorded answers.

    HYBRID_LLM_DATA=... python -m tests.benchmarks.second_look [--data NAME ...] [--json FILE]

Five folds by a hash of the id, three seeds. Each fold's router is fitted on the other four, choice
of width and `auto` included, and scores the held-out fold without and with the recorded answers;
the folds are pooled, and figures are means over the seeds. Dollars are those recorded, else token
prices (`FILES`) on the recorded texts at four characters a token; every call counts, so that an
answer that is passed on costs both. What is saved at a drop is told in hindsight, on the convex
hull, where a coin between two settings is allowed: that flatters every line alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_router import RoutingDataset
from tests.benchmarks.second_look.fits import (
    FILES,
    SEEDS,
    SHARES,
    lines_of,
    out_of_fold,
    pair_of,
    source_of,
)
from tests.benchmarks.second_look.lines import measure
from tests.benchmarks.second_look.table import Found, Training, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.second_look.fits import Scores


def study(name: str, folder: Path, seeds: Sequence[int] = SEEDS) -> Found:
    """Fit and measure on one data set."""
    file = FILES[name]
    names = (file.small.name, file.reference.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows that one of the two did not answer
        data = RoutingDataset.load(folder / f"{name}.jsonl.gz").candidates(names)
    pair = pair_of(data, file)
    each = [out_of_fold(data, file, seed) for seed in seeds]
    found = {share: [own[share] for own in each] for share in SHARES}
    return Found(
        name=name,
        models=names,
        n=len(data),
        mean_cost_usd=tuple(map(float, pair.cost_usd.mean(axis=0))),
        costs=source_of(data, file),
        figures=measure(lines_of(data, pair, found, names[0]), pair, file.drops),
        training={share: _training(scores) for share, scores in found.items()},
        development=file.development,
    )


def _training(scores: Sequence[Scores]) -> Training:
    widths = [width for each in scores for width in each.by_fit(each.width)]
    pays = [pays for each in scores for pays in each.by_fit(each.pays)]
    return Training(min(widths), float(np.median(widths)), max(widths), int(sum(pays)), len(pays))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=FILES, default=list(FILES), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    folder = os.environ.get("HYBRID_LLM_DATA")
    if folder is None:
        sys.exit("HYBRID_LLM_DATA is the folder with the routing data sets; it is not set.")
    every = []
    for name in given.data:
        every.append(study(name, Path(folder)))
        print(table(every[-1]), flush=True)  # noqa: T201
        if given.json:
            given.json.write_text(
                json.dumps([dataclasses.asdict(each) for each in every], indent=1)
            )


if __name__ == "__main__":
    main()
