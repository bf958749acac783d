"""Several processes under torchrun train one encoder, and the first of them saves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared_router import Router
from tests.material import HARD, known_truth

pytestmark = [pytest.mark.statistical]  # a minute of two interpreters with torch


def test_torchrun_fits_one_router(
    tiny_encoder: str, tmp_path: Path, repository: Path, own_cache: Path
) -> None:
    known_truth(80).save(tmp_path / "outcomes.jsonl.gz")
    out = tmp_path / "router"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        "--no-python",
        str(Path(sys.executable).parent / "hybrid-llm"),
        *("fit", tmp_path / "outcomes.jsonl.gz", "--candidates", "small,large", "--out", out),
        *("--encoder", tiny_encoder, "--finetune", "--epochs", "1", "--json"),
    ]
    environment = os.environ | {
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False,
        timeout=600, cwd=repository, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["training"]["finetuning"]["processes"] == 2
    assert Router.from_pretrained(out).score(HARD).shape == (4, 1)
    assert not list(own_cache.glob("tuning/*"))
