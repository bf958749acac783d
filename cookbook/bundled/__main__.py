"""Make the bundled router anew, and its card.

    python -m cookbook.bundled DATA [--out FOLDER]

DATA holds the files of `pool.SOURCES` and `pool.CHAT`: measured outcomes from lm-sys/RouteLLM,
shuhao02/RouterDC (which carries RouterBench's) and tatsu-lab/alpaca_eval, in this library's format.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import shared_router
from cookbook.bundled.card import dial_table, notes, table
from cookbook.bundled.head import RIDGE, fit_head
from cookbook.bundled.measure import at_dials, in_domain, left_out, on_chat
from cookbook.bundled.pool import CANDIDATES, CHAT, read_pool
from shared_router import Router
from shared_router.options import Dial
from shared_router.serving.features import FEATURE_NAMES
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession
from shared_router.training.encoder import load_encoder
from shared_router.training.export import export_router_graph
from shared_router.training.quantisation import quantised

if TYPE_CHECKING:
    from cookbook.bundled.pool import Pool
    from shared_router.training.encoder import ExportedEncoder

OUT = Path(shared_router.__file__).parent / "bundled"
DIAL = Dial("cost_advantage", 0.5)
DIALS = (Dial("max_quality_drop", 0.01), Dial("max_quality_drop", 0.05), DIAL)
CALIBRATION_ROWS = 400
"""Most calibration questions of one source, so that the largest does not decide alone."""


def make_router(pool: Pool, encoder: ExportedEncoder) -> Router:
    """Fit on the training questions, quantise, and calibrate on the validation questions."""
    train = pool.take(pool.splits == "train")
    head = fit_head(train)
    graph = export_router_graph(encoder.graph, head, len(FEATURE_NAMES))
    scorer = GraphScorer(GraphSession(graph), encoder.tokens)
    scorer, int8 = quantised(scorer, list(train.queries))
    router = Router(
        candidates=CANDIDATES,
        scorer=scorer,
        name="bundled",
        tiers=True,
        fitted_ids=frozenset(train.ids.tolist()),
        facts={"training": _facts(train, encoder) | {"int8": int8}},
    )
    return router.calibrate(
        _capped(pool.take((pool.splits == "validation") & pool.known)).dataset(),
        default=DIAL,
        by_task="off",
    )


def _capped(pool: Pool) -> Pool:
    """Keep at most `CALIBRATION_ROWS` of each source, drawn from a seed."""
    order = np.random.default_rng(0).permutation(len(pool))
    kept = [order[pool.sources[order] == name][:CALIBRATION_ROWS] for name in set(pool.sources)]
    return pool.take(np.sort(np.concatenate(kept)))


def _facts(train: Pool, encoder: ExportedEncoder) -> dict[str, object]:
    names, sizes = np.unique(train.sources, return_counts=True)
    means = train.small.mean(), np.nanmean(train.frontier)
    return {
        "data": ", ".join(names.tolist()),
        "n": len(train),
        "splits": {"train": len(train)},
        "tasks": dict(zip(names.tolist(), sizes.tolist(), strict=True)),
        "mean_quality": dict(zip(CANDIDATES, map(float, means), strict=True)),
        "labels": "gap",
        "t": None,
        "encoder": encoder.name,
        "encoder_sha256": encoder.sha256,
        "max_tokens": encoder.max_tokens,
        "seed": 0,
        "parts": {"linear": 1.0},
        "ridge": RIDGE,
    }


def main() -> None:
    """Measure, make, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the data files")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    encoder = load_encoder("minilm")
    pool = read_pool(asked.data, encoder)
    chat = read_pool(asked.data, encoder, [CHAT])
    figures = [*left_out(pool), on_chat(pool, chat), *in_domain(pool)]
    print(table(figures))
    router = make_router(pool, encoder)
    unseen = pool.take(pool.splits == "validation")
    dialled = [*at_dials(router, unseen, DIALS), *at_dials(router, chat, DIALS)]
    print(dial_table(dialled))
    router = replace(router, facts=router.facts | {"notes": notes(figures, dialled)})
    router.save_pretrained(asked.out)
    size = sum(path.stat().st_size for path in asked.out.iterdir()) / 1e6
    print(f"{router}, {size:.1f} MB in {asked.out}")


if __name__ == "__main__":
    main()
