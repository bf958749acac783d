"""Routers of the data sets, fitted for a benchmark or read where they were kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shared_router import Router, RoutingDataset

if TYPE_CHECKING:
    from collections.abc import Sequence


def data_of(name: str) -> RoutingDataset:
    """Read a data set in the folder `HYBRID_LLM_DATA`."""
    return RoutingDataset.load(Path(os.environ["HYBRID_LLM_DATA"]) / f"{name}.jsonl.gz")


def router_of(name: str, candidates: Sequence[str], keep: Path | None) -> Router:
    """Fit a router on the training split and calibrate it, or read the one that was kept."""
    folder = keep / name if keep else None
    if folder is not None and folder.is_dir():
        return Router.from_pretrained(folder)
    data = data_of(name)
    router = Router.fit(data.split("train"), candidates=list(candidates))
    router = router.calibrate(data.split("validation"))
    if folder is not None:
        router.save_pretrained(folder)
    return router
