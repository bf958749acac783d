"""A router as files: what stands in its folder, and on the hub."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.card import model_card
from shared_router.data.dataset import check_candidate_names
from shared_router.data.labels import LABEL_KINDS
from shared_router.deciding.curve import CalibrationCurve
from shared_router.deciding.tasks import TaskCurves
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.options import Dial
from shared_router.retrieval import FACT_NAMES
from shared_router.scoring.features import FEATURE_NAMES
from shared_router.scoring.fitting import Reference
from shared_router.scoring.persistence import (
    BUNDLED,
    arrays_from_file,
    arrays_to_bytes,
    file_sha256,
    json_from_file,
    read_folder,
    write_folder,
)
from shared_router.scoring.serving import GraphScorer, GraphSession
from shared_router.scoring.tasks import TaskNames
from shared_router.scoring.tokens import Tokens

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from shared_router.router import Router

GRAPH, TOKENIZER, SETTINGS = "graph.onnx", "tokenizer.json", "router.json"
CALIBRATION, REFERENCE, CARD = "calibration.safetensors", "reference.safetensors", "README.md"


def save(router: Router, folder: Path) -> None:
    """Write a router to a folder; see `Router.save_pretrained`."""
    write_folder(folder, _files(router))


def _files(router: Router) -> dict[str, bytes]:
    scorer = router.scorer
    if not isinstance(scorer, GraphScorer):
        raise ConfigurationError(
            f"Only a fitted router can be saved; this one scores with a {type(scorer).__name__}."
        )
    files = {
        GRAPH: scorer.session.bytes,
        TOKENIZER: scorer.tokens.serialized.encode(),
        SETTINGS: json.dumps(_settings(router, scorer), indent=2).encode(),
        CARD: model_card(router).encode(),
    }
    if router.curve is not None:
        arrays = curve_arrays(router.curve)
        for at, curve in enumerate(_curves_by_task(router).values()):
            arrays |= curve_arrays(curve, f"task {at}/")
        files[CALIBRATION] = arrays_to_bytes(arrays)
    if router.reference is not None:
        kept: dict[str, NDArray[Any]] = {
            "embeddings": router.reference.embeddings,
            "gaps": router.reference.gaps,
        }
        files[REFERENCE] = arrays_to_bytes(kept)
    return files


def curve_arrays(curve: CalibrationCurve, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Name the arrays of a curve."""
    arrays = {
        "thresholds": curve.thresholds,
        "cost_advantage": curve.cost_advantage,
        "quality": curve.quality,
        "scores": curve.scores,
        "outcomes": curve.outcomes,
    }
    return {prefix + name: array for name, array in arrays.items() if array is not None}


def _curves_by_task(router: Router) -> Mapping[str, CalibrationCurve]:
    return router.task_curves.curves if router.task_curves else {}


def _curve_settings(curve: CalibrationCurve) -> dict[str, Any]:
    return {"n": curve.n, "quality_range": list(curve.quality_range)}


def _task_settings(router: Router) -> dict[str, Any] | None:
    tasks = router.task_curves
    if tasks is None:
        return None
    return {
        "by": tasks.by,
        "least": tasks.least,
        "too_few": dict(tasks.too_few),
        "curves": [{"label": k} | _curve_settings(own) for k, own in tasks.curves.items()],
    }


def _settings(router: Router, scorer: GraphScorer) -> dict[str, Any]:
    dial, curve = router.default_dial, router.curve
    return {
        "name": router.name,
        "candidates": list(router.candidates),
        "aliases": {name: list(known) for name, known in router.aliases.items()},
        "tiers": router.tiers,
        "labels": router.labels,
        "costs_usd": list(router.costs_usd) if router.costs_usd else None,
        "default_dial": {"name": dial.name, "value": dial.value} if dial else None,
        "max_tokens": scorer.tokens.max_tokens,
        "tail_tokens": scorer.tokens.tail_tokens,
        # Versions that know no facts of retrieval, or no terms, refuse a router that needs them.
        "features": _feature_names(len(scorer.fact_means), scorer.reads_terms),
        "retrieval_means": list(scorer.fact_means),
        "uses_reference": scorer.reference is not None,
        "reads_terms": scorer.reads_terms,
        "tasks": {"labels": list(scorer.tasks.labels), "told": list(scorer.tasks.told)},
        "calibration": curve
        and _curve_settings(curve)
        | {"graph_sha256": scorer.session.sha256, "by_task": _task_settings(router)},
        "fitted_ids": sorted(router.fitted_ids),
        "calibrated_ids": sorted(router.calibrated_ids),
        "facts": router.facts,
    }


def _feature_names(facts: int, terms: bool) -> list[str]:
    return [*FEATURE_NAMES, *FACT_NAMES[:facts], *(["terms"] if terms else [])]


def load(folder: Path) -> dict[str, Any]:
    """Read the fields of a router from its folder.

    Raises:
        ArtifactError: If it is missing, corrupt, truncated, foreign or of a newer format.
    """
    files = read_folder(folder)
    try:
        settings = json_from_file(files[SETTINGS])
        return _fields(settings, files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(f"{folder}: its settings are incomplete or wrong ({error}).") from error


def _fields(settings: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    means = tuple(map(float, settings.get("retrieval_means", ())))  # older routers see no facts
    terms = bool(settings.get("reads_terms", False))  # older routers read none
    known = len(means) in (0, len(FACT_NAMES))
    if not known or settings["features"] != _feature_names(len(means), terms):
        raise ArtifactError(
            f"{files[SETTINGS]}: fitted with other query features than this hybrid-llm computes; "
            "fit the router anew, or install the version that wrote it."
        )
    check_candidate_names(settings["candidates"])
    if settings["labels"] not in LABEL_KINDS:
        raise ArtifactError(f"{files[SETTINGS]}: unknown labels {settings['labels']!r}.")
    kept = arrays_from_file(files[REFERENCE]) if REFERENCE in files else None
    reference = Reference(kept["embeddings"], kept["gaps"]) if kept else None
    needed = reference.as_input() if reference and settings["uses_reference"] else None
    tokens = Tokens(
        files[TOKENIZER].read_text(encoding="utf-8"),
        settings["max_tokens"],
        settings.get("tail_tokens", 0),  # older routers were fitted on heads alone
    )
    scorer = GraphScorer(GraphSession(files[GRAPH], file_sha256(files[GRAPH])), tokens, needed)
    names = settings.get("tasks", {})  # older routers take no labels
    tasks = TaskNames(tuple(names.get("labels", ())), tuple(names.get("told", ())))
    scorer = replace(scorer, tasks=tasks, fact_means=means, reads_terms=terms)
    dial, costs = settings["default_dial"], settings["costs_usd"]
    curve, task_curves = _curves(settings["calibration"], scorer, files)
    return {
        "name": settings["name"],
        "candidates": tuple(settings["candidates"]),
        "aliases": _aliases(settings.get("aliases", {}), settings["candidates"]),
        "tiers": bool(settings.get("tiers", False)),
        "labels": settings["labels"],
        "costs_usd": tuple(costs) if costs else None,
        "scorer": scorer,
        "curve": curve,
        "task_curves": task_curves,
        "default_dial": Dial(dial["name"], dial["value"]) if dial else None,
        "reference": reference,
        "fitted_ids": frozenset(settings["fitted_ids"]),
        "calibrated_ids": frozenset(settings["calibrated_ids"]),
        "facts": settings["facts"],
    }


def _aliases(stored: Any, candidates: list[str]) -> dict[str, tuple[str, ...]]:
    """Take the aliases of the candidates; older routers know none."""
    found = {name: tuple(known) for name, known in stored.items() if name in candidates}
    if not all(isinstance(alias, str) for known in found.values() for alias in known):
        raise TypeError("aliases are lists of names")
    return found


def _curves(
    calibration: dict[str, Any] | None, scorer: GraphScorer, files: dict[str, Path]
) -> tuple[CalibrationCurve | None, TaskCurves | None]:
    if calibration is None:
        return None, None
    if calibration["graph_sha256"] != scorer.session.sha256:
        raise ArtifactError(
            f"{files[GRAPH]}: not the graph this router was calibrated with; calibrate it again."
        )
    arrays = {
        name: array.astype(np.float64)
        for name, array in arrays_from_file(files[CALIBRATION]).items()
    }
    whole = _curve({name: a for name, a in arrays.items() if "/" not in name}, calibration)
    stored = calibration.get("by_task")
    if stored is None:
        return whole, None
    curves = {}
    for at, about in enumerate(stored["curves"]):
        start = f"task {at}/"
        own = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
        curves[about["label"]] = _curve(own, about)
    return whole, TaskCurves(
        curves=curves, too_few=stored["too_few"], least=stored["least"], by=stored["by"]
    )


def _curve(arrays: dict[str, NDArray[np.float64]], about: dict[str, Any]) -> CalibrationCurve:
    low, high = about["quality_range"]
    return CalibrationCurve(**arrays, quality_range=(low, high), n=about["n"])


def find(name_or_path: str | os.PathLike[str], revision: str | None) -> Path:
    """Find a router's folder, downloading it from the hub where the name is no folder.

    Raises:
        ArtifactError: If it is neither.
    """
    if name_or_path == BUNDLED:
        return Path(__file__).parent / BUNDLED
    path = Path(name_or_path)
    if path.exists():
        return path
    name = str(name_or_path)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ArtifactError(f"{name}: no such folder, and not a hub name (owner/name).")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        raise ArtifactError(
            f"{name}: no such folder, and the hub has it not or cannot be reached "
            f"({type(error).__name__})."
        ) from error


def push(router: Router, repo_id: str, *, private: bool, commit_message: str) -> str:
    """Upload a router to the hub; see `Router.push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "router"
        save(router, folder)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=commit_message
        )
    return str(commit.commit_url)
