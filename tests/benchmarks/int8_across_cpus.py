"""A router's int8 scores on this CPU, and on an emulated one without VNNI and AVX-512.

    python -m tests.benchmarks.int8_across_cpus DATA [--router bundled] [--queries 40]

Needs QEMU's user mode (Debian: `qemu-user`), which runs this script a second time as if on that
CPU: onnxruntime chooses other kernels there. What each CPU offers is read from its CPUID, by
numpy; the system's own list would name the real one's. Emulated, a query takes seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from shared_router import Router, RoutingDataset

FLAGS = ("AVX2", "AVX512F", "AVX512VNNI")


def offered() -> list[str]:
    """List which of `FLAGS` this CPU has."""
    found = np._core._multiarray_umath.__cpu_features__  # the only reader of CPUID at hand
    return [flag for flag in FLAGS if found.get(flag)]


def score(router: str, data: str, queries: int, target: Path) -> None:
    """Score validation queries one by one, and keep scores and what the CPU offers."""
    texts = RoutingDataset.load(data).split("validation").queries
    chosen = texts[:: max(1, len(texts) // queries)][:queries]
    scores = Router.from_pretrained(router).score(chosen)
    np.savez(target, scores=scores, offered=np.array(offered(), dtype=str))


def compare(here: Path, there: Path) -> str:
    """Say how far scores of both CPUs are apart."""
    one, other = np.load(here), np.load(there)
    left, right = one["scores"], other["scores"]
    lines = [
        f"here:  {' '.join(one['offered']) or 'none of them'}",
        f"there: {' '.join(other['offered']) or 'none of them'}",
        f"{len(left)} queries; greatest difference {np.abs(left - right).max():.2e}",
        f"spread of scores {left.std():.3f}",
    ]
    for column in range(left.shape[1]):
        found = spearmanr(left[:, column], right[:, column]).statistic
        lines.append(f"rank correlation, column {column}: {found:.5f}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--router", default="bundled")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--cpu", default="Haswell")
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.target:
        score(asked.router, asked.data, asked.queries, asked.target)
        return
    with tempfile.TemporaryDirectory() as scratch:
        here, there = Path(scratch) / "here.npz", Path(scratch) / "there.npz"
        score(asked.router, asked.data, asked.queries, here)
        again = [sys.executable, "-m", "tests.benchmarks.int8_across_cpus", *sys.argv[1:]]
        emulated = ["qemu-x86_64", "-cpu", asked.cpu, *again, "--target", str(there)]
        # OpenBLAS must not choose kernels by another reading of the CPU; threads are slow there.
        environment = os.environ | {"OPENBLAS_CORETYPE": asked.cpu, "OMP_NUM_THREADS": "1"}
        subprocess.run(emulated, check=True, env=environment)
        print(compare(here, there))  # noqa: T201


if __name__ == "__main__":
    main()
