"""int8 for serving: kept only where it ranks queries as float32 does.

Weights are rounded per channel, to 7 bits: on a CPU without VNNI two products of 8 bits can
overflow the 16 bits they are summed in, and a router would score otherwise there than where it was
calibrated. The heads are left as they are: they are small, and their kernels are sensitive.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.measuring.ranks import ranks
from shared_router.serving.session import GraphSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.serving.scorer import GraphScorer

LEAST_SPEARMAN = 0.99
"""Least rank correlation with float32, of every score column."""
MOST_QUERIES = 500
LEAST_QUERIES = 20
"""On fewer queries a rank correlation says little, and float32 stays."""
_FLAGS = ("avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimddp", "i8mm")


def quantised(scorer: GraphScorer, texts: Sequence[str]) -> tuple[GraphScorer, dict[str, Any]]:
    """Serve in int8 where ranking survives.

    Args:
        scorer: A float32 scorer.
        texts: Training queries to compare on; up to `MOST_QUERIES` of them are scored twice.

    Returns:
        The int8 scorer, or the same one; and what was measured: `kept`, `spearman`, `n`,
        `checked_on`.
    """
    import dataclasses

    distinct = list(dict.fromkeys(texts))
    chosen = distinct[:: max(1, -(-len(distinct) // MOST_QUERIES))]
    facts: dict[str, Any] = {"n": len(chosen), "checked_on": instruction_sets()}
    if len(chosen) < LEAST_QUERIES:
        return scorer, facts | {"kept": False, "spearman": None}
    small = dataclasses.replace(scorer, session=GraphSession(int8_graph(scorer.session.bytes)))
    spearman = least_spearman(scorer.score(chosen), small.score(chosen))
    kept = spearman >= LEAST_SPEARMAN
    return (small if kept else scorer), facts | {"kept": kept, "spearman": round(spearman, 5)}


def int8_graph(graph: bytes) -> bytes:
    """Quantise the matrix products of a graph's encoders."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    heads = [node.name for node in onnx.load_from_string(graph).graph.node if "/" not in node.name]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a preprocessing that changes nothing here
    try:
        with tempfile.TemporaryDirectory() as scratch:
            source, target = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
            source.write_bytes(graph)
            quantize_dynamic(
                source,
                target,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=heads,
            )
            return target.read_bytes()
    finally:
        root.setLevel(level)


def least_spearman(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the least rank correlation over the columns of two tables of scores."""
    found = []
    for left, right in zip(one.T, other.T, strict=True):
        both = ranks(left), ranks(right)
        alike = np.array_equal(*both)
        varied = all(np.ptp(each) > 0 for each in both)
        found.append(1.0 if alike else float(np.corrcoef(*both)[0, 1]) if varied else 0.0)
    return min(found)


def instruction_sets() -> list[str]:
    """List what this CPU offers for int8 products, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.machine()]
    listed = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    flags = set(listed.partition(":")[2].split())
    return [platform.machine(), *(flag for flag in _FLAGS if flag in flags)]
