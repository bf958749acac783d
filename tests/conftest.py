"""Fixtures shared by all tests; nothing here reaches a network."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Matrices are small here: more threads would but wait for each other, in child processes too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest

from shared_router import Router, RoutingDataset
from shared_router.support.once import forget_said
from tests.material import PAIR, Remembering, by_task, known_truth, save_tiny_bert, three_models

if TYPE_CHECKING:
    from collections.abc import Sequence

hypothesis.settings.register_profile("house", deadline=None, max_examples=60)
hypothesis.settings.load_profile("house")

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make, not in the hosts' libraries over and over."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of the real data sets, or skip."""
    chosen = os.environ.get("HYBRID_LLM_DATA")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data sets in {folder}; set HYBRID_LLM_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """Let every test hear what a process says once."""
    forget_said()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a cache folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HYBRID_LLM_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder shared by tests of the tiny encoder."""
    return tmp_path_factory.mktemp("tiny-cache")


@pytest.fixture
def in_tiny_cache(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the cache at the folder where the tiny encoder is already exported."""
    monkeypatch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
    return tiny_cache


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a random one-layer BERT of 16 dimensions."""
    pytest.importorskip("transformers")
    return str(save_tiny_bert(tmp_path_factory.mktemp("tiny-bert")))


def tiny_router(
    data: RoutingDataset, candidates: Sequence[str], encoder: str, cache: Path
) -> Router:
    """Fit on the tiny encoder, exported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(cache))
        return Router.fit(data, candidates, encoder=encoder)


@pytest.fixture(scope="session")
def fitted(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Return an uncalibrated `gap` router on the tiny encoder."""
    return tiny_router(known_truth(150), PAIR, tiny_encoder, tiny_cache)


@pytest.fixture(scope="session")
def calibrated(fitted: Router) -> Router:
    """Return the same router, calibrated on other queries."""
    return fitted.calibrate(known_truth(120, split="validation", seed=1))


@pytest.fixture(scope="session")
def fitted_by_task(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Return an uncalibrated router whose queries' tasks say which model is good."""
    return tiny_router(by_task(240), PAIR, tiny_encoder, tiny_cache)


@pytest.fixture(scope="session")
def calibrated_by_task(fitted_by_task: Router) -> Router:
    """Return it calibrated: both made tasks have over 100 queries, the rare one has 40."""
    return fitted_by_task.calibrate(by_task(320, split="validation", seed=1))


@pytest.fixture(scope="session")
def fitted_three(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Return an uncalibrated router of nano, mini and maxi."""
    return tiny_router(three_models(160), ("nano", "mini", "maxi"), tiny_encoder, tiny_cache)


@pytest.fixture(scope="session")
def calibrated_three(fitted_three: Router) -> Router:
    """Return it calibrated on other queries."""
    return fitted_three.calibrate(three_models(120, split="validation", seed=1))


MEASURED = "routellm_gsm8k.jsonl.gz"


@pytest.fixture(scope="session")
def measured_demo(
    data_folder: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Run the demo on a measured pair; return its working folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, str(repository / "cookbook" / "demo.py"), str(data_folder / MEASURED)],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="session")
def measured_router(measured_demo: tuple[Path, str]) -> Router:
    """Return the demo's router: MiniLM, fitted on `train` and calibrated on `validation`."""
    return Router.from_pretrained(measured_demo[0] / ".demo" / "router")


@pytest.fixture(scope="session")
def remembering_router(measured_router: Router) -> Router:
    """Return it with a scorer that scores each text once."""
    return dataclasses.replace(measured_router, scorer=Remembering(measured_router.scorer))


@pytest.fixture(scope="session")
def measured_pair(data_folder: Path) -> RoutingDataset:
    """Return the held-out queries of the measured pair."""
    return RoutingDataset.load(data_folder / MEASURED).split("validation")
