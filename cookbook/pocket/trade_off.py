"""The trade-off curve as a picture: quality against cost advantage."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl

from shared_router.data.output import write_whole
from shared_router.deciding.walk import Walk
from shared_router.measuring.baselines import baseline_walks

mpl.use("Agg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from shared_router import Router

STYLES = {
    "router": {"color": "#0072b2", "linewidth": 2.2},
    "oracle": {"color": "#999999", "linestyle": ":"},
    "query length": {"color": "#d55e00", "linewidth": 1.2},
    "random": {"color": "#555555", "linestyle": "--", "linewidth": 1.2},
}


class Point(NamedTuple):
    """A run at one setting of the dial."""

    name: str
    cost_advantage: float
    quality: float


def plot(
    router: Router,
    queries: Sequence[str],
    quality: NDArray[np.float64],
    points: Sequence[Point],
    path: Path,
) -> None:
    """Draw the router's line beside the baselines' on the same queries.

    Args:
        router: The router.
        queries: The queries' texts.
        quality: Shape (n, k), the reference last.
        points: Runs at some dials.
        path: Where the PNG goes.
    """
    walks = {"router": Walk(router.rule, router.score(queries), quality)}
    walks |= {
        name.replace("_", " "): walk
        for name, walk in baseline_walks(queries, quality, router.rule.savings).items()
    }
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for name, style in STYLES.items():
        shares, means = walks[name].line()
        axes.plot(shares, means, label=name, **style)
    for point in points:
        axes.plot(point.cost_advantage, point.quality, "o", color="#0072b2", markersize=7)
        axes.annotate(
            point.name,
            (point.cost_advantage, point.quality),
            xytext=(6, 8),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set_xlabel("cost advantage: share of calls kept from the large model")
    axes.set_ylabel("mean quality")
    axes.set_xlim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    write_whole(path, drawn.getvalue())
    plt.close(figure)
