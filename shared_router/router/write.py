"""Writing a router: what stands in its folder, and on the hub."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_router.data.schema import storable
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.router.card import model_card
from shared_router.router.folder import arrays_to_bytes, write_folder
from shared_router.router.look_files import look_arrays, look_files, look_settings
from shared_router.router.promise_files import promise_arrays, promise_settings
from shared_router.router.read import (
    CALIBRATION,
    CARD,
    GRAPH,
    LOOKS,
    OUT_OF_FOLD,
    SETTINGS,
    TOKENIZER,
    TRAIN_MEMORY,
)
from shared_router.router.schema import parse_settings
from shared_router.serving.features import feature_names
from shared_router.serving.scorer import GraphScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from shared_router.deciding.by_task import TaskCurves
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.router.state import RouterState


def save(router: RouterState, folder: Path, about_to: Callable[[], None] | None = None) -> None:
    """Write a router to a folder; see `Router.save_pretrained` and `write_folder`."""
    write_folder(folder, _files(router), about_to)


def _files(router: RouterState) -> dict[str, bytes]:
    scorer = router.scorer
    if not isinstance(scorer, GraphScorer):
        raise ConfigurationError(
            f"Only a fitted router can be saved; this one scores with a {type(scorer).__name__}."
        )
    files = {
        GRAPH: scorer.session.bytes,
        TOKENIZER: scorer.tokens.serialized.encode(),
        SETTINGS: _serialized(_settings(router, scorer)),
        CARD: storable(model_card(router)).encode(),
    }
    if router.curve is not None:
        arrays = curve_arrays(router.curve)
        for at, curve in enumerate(_curves_by_task(router).values()):
            arrays |= curve_arrays(curve, f"task {at}/")
        arrays |= promise_arrays(router.promises, router.probes)
        arrays |= look_arrays(router.second_look, _look_curves(router))
        files[CALIBRATION] = arrays_to_bytes(arrays)
    files |= look_files(router)
    if router.out_of_fold is not None:
        unseen = router.out_of_fold
        files[OUT_OF_FOLD] = arrays_to_bytes({"scores": unseen.scores, "outcomes": unseen.outcomes})
    if router.train_memory is not None:
        kept: dict[str, NDArray[Any]] = {
            "embeddings": router.train_memory.embeddings,
            "gaps": router.train_memory.gaps,
        }
        files[TRAIN_MEMORY] = arrays_to_bytes(kept)
    return files


def _serialized(settings: dict[str, Any]) -> bytes:
    """Write settings that can be read again.

    Raises:
        ArtifactError: If they could not be.
    """
    try:
        content = storable(json.dumps(settings, indent=2, ensure_ascii=False)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{SETTINGS}: facts are plain JSON: texts, numbers, lists and dicts; got others "
            f"({error})."
        ) from error
    parse_settings(content, SETTINGS, "Nothing was written: no version could read it again.")
    return content


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


def _curves_by_task(router: RouterState) -> Mapping[str, CalibrationCurve]:
    return router.task_curves.curves if router.task_curves else {}


def _look_curves(router: RouterState) -> dict[str, NDArray[Any]]:
    """Name the arrays of the curves of the line with looks."""
    line = router.second_look.line if router.second_look else None
    if line is None:
        return {}
    arrays = curve_arrays(line.curve, LOOKS)
    own = line.task_curves.curves if line.task_curves else {}
    for at, curve in enumerate(own.values()):
        arrays |= curve_arrays(curve, f"{LOOKS}task {at}/")
    return arrays


def _look_line(router: RouterState) -> dict[str, Any] | None:
    line = router.second_look.line if router.second_look else None
    if line is None:
        return None
    return _curve_settings(line.curve) | {"by_task": _task_settings(line.task_curves)}


def _curve_settings(curve: CalibrationCurve) -> dict[str, Any]:
    return {"n": curve.n, "quality_range": list(curve.quality_range)}


def _task_settings(tasks: TaskCurves | None) -> dict[str, Any] | None:
    if tasks is None:
        return None
    return {
        "by": tasks.by,
        "least": tasks.least,
        "too_few": dict(tasks.too_few),
        "curves": [{"label": k} | _curve_settings(own) for k, own in tasks.curves.items()],
    }


def _settings(router: RouterState, scorer: GraphScorer) -> dict[str, Any]:
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
        "features": feature_names(len(scorer.retrieval_means), scorer.reads_terms),
        "retrieval_means": list(scorer.retrieval_means),
        "uses_reference": scorer.train_embeddings is not None,
        "reads_terms": scorer.reads_terms,
        "tasks": {"labels": list(scorer.tasks.labels), "told": list(scorer.tasks.told)},
        "calibration": curve
        and _curve_settings(curve)
        | {
            "graph_sha256": scorer.session.sha256,
            "tokens_sha256": scorer.tokens.sha256,
            "by_task": _task_settings(router.task_curves),
            "promises": promise_settings(router.promises),
            "probes_spread": router.probes.spread if router.probes else None,
        },
        "second_look": look_settings(router.second_look, _look_line(router)),
        "fitted_ids": sorted(router.fitted_ids),
        "calibrated_ids": sorted(router.calibrated_ids),
        "facts": router.facts,
    }


def push(router: RouterState, repo_id: str, *, private: bool, commit_message: str) -> str:
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
