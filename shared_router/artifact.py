"""A router as files: what stands in its folder, and on the hub."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.artifact_schema import WAY_OUT, parse_settings, said_of
from shared_router.card import model_card
from shared_router.checks import check_reference
from shared_router.data.schema import storable
from shared_router.deciding.checks import check_array
from shared_router.deciding.curve import CalibrationCurve
from shared_router.deciding.rule import rule_of
from shared_router.deciding.tasks import TaskCurves
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.names import shown
from shared_router.retrieval import FACT_NAMES
from shared_router.scoring.artifact_files import read_folder
from shared_router.scoring.features import FEATURE_NAMES
from shared_router.scoring.fitting import Reference
from shared_router.scoring.persistence import (
    BUNDLED,
    SETTINGS,
    arrays_from_file,
    arrays_to_bytes,
    write_folder,
)
from shared_router.scoring.serving import GraphScorer, GraphSession
from shared_router.scoring.swapping import found_again
from shared_router.scoring.tasks import TaskNames
from shared_router.scoring.tokens import Tokens

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.artifact_schema import Settings, StoredCurve
    from shared_router.deciding.rule import Rule
    from shared_router.router import Router
    from shared_router.scoring.artifact_files import FileRead

GRAPH, TOKENIZER = "graph.onnx", "tokenizer.json"
CALIBRATION, REFERENCE, CARD = "calibration.safetensors", "reference.safetensors", "README.md"
LINE = ("thresholds", "cost_advantage", "quality")
"""Arrays of a curve that every calibration has."""


def save(router: Router, folder: Path, about_to: Callable[[], None] | None = None) -> None:
    """Write a router to a folder; see `Router.save_pretrained` and `write_folder`."""
    write_folder(folder, _files(router), about_to)


def _files(router: Router) -> dict[str, bytes]:
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
        files[CALIBRATION] = arrays_to_bytes(arrays)
    if router.reference is not None:
        kept: dict[str, NDArray[Any]] = {
            "embeddings": router.reference.embeddings,
            "gaps": router.reference.gaps,
        }
        files[REFERENCE] = arrays_to_bytes(kept)
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
        | {
            "graph_sha256": scorer.session.sha256,
            "tokens_sha256": scorer.tokens.sha256,
            "by_task": _task_settings(router),
        },
        "fitted_ids": sorted(router.fitted_ids),
        "calibrated_ids": sorted(router.calibrated_ids),
        "facts": router.facts,
    }


def _feature_names(facts: int, terms: bool) -> list[str]:
    return [*FEATURE_NAMES, *FACT_NAMES[:facts], *(["terms"] if terms else [])]


def load(folder: Path) -> dict[str, Any]:
    """Read the fields of a router from its folder.

    Raises:
        ArtifactError: If it is missing, corrupt, truncated, foreign or of a newer format, or breaks
            a rule of the schema.
    """
    files = read_folder(folder)
    settings = parse_settings(_file(files, SETTINGS, folder).content, str(folder / SETTINGS))
    _check_features(settings, folder)
    return _fields(settings, files, folder)


def _file(files: Mapping[str, FileRead], name: str, folder: Path) -> FileRead:
    if name not in files:
        raise ArtifactError(f"{folder}: its manifest lists no {name!r}; copy the folder again.")
    return files[name]


def _check_features(settings: Settings, folder: Path) -> None:
    facts = len(settings.retrieval_means)
    known = facts in (0, len(FACT_NAMES))
    if not known or settings.features != _feature_names(facts, settings.reads_terms):
        raise ArtifactError(
            f"{folder / SETTINGS}: fitted with other query features than this hybrid-llm computes; "
            "fit the router anew, or install the version that wrote it."
        )


def _fields(settings: Settings, files: Mapping[str, FileRead], folder: Path) -> dict[str, Any]:
    with said_of(folder / REFERENCE):
        reference = _reference(settings, files)
    scorer = _scorer(settings, reference, files, folder)
    curve, task_curves = _curves(settings, scorer, files, folder)
    return {
        "name": settings.name,
        "candidates": tuple(settings.candidates),
        "aliases": {name: tuple(known) for name, known in settings.aliases.items()},
        "tiers": settings.tiers,
        "labels": settings.labels,
        "costs_usd": tuple(settings.costs_usd) if settings.costs_usd is not None else None,
        "scorer": scorer,
        "curve": curve,
        "task_curves": task_curves,
        "default_dial": settings.default_dial and settings.default_dial.dial,
        "reference": reference,
        "fitted_ids": frozenset(settings.fitted_ids),
        "calibrated_ids": frozenset(settings.calibrated_ids),
        "facts": settings.facts,
    }


def _reference(settings: Settings, files: Mapping[str, FileRead]) -> Reference | None:
    if REFERENCE not in files:
        if settings.uses_reference:
            raise ConfigurationError("The settings say uses_reference, and there is no such file.")
        return None
    kept = arrays_from_file(files[REFERENCE])
    reference = Reference(*_named(kept, ("embeddings", "gaps")))
    check_reference(reference, len(settings.candidates))
    return reference


def _named(arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> list[NDArray[Any]]:
    """Take the arrays of these names."""
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ConfigurationError(f"It holds the arrays {', '.join(names)}; got no {missing[0]}.")
    return [arrays[name] for name in names]


def _scorer(
    settings: Settings, reference: Reference | None, files: Mapping[str, FileRead], folder: Path
) -> GraphScorer:
    graph = _file(files, GRAPH, folder)
    try:
        tokenizer = _file(files, TOKENIZER, folder).read_text()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{folder / TOKENIZER}: not UTF-8 text. {WAY_OUT}") from error
    return GraphScorer(
        GraphSession(graph.path, graph.sha256, graph.content),  # another may be saved there soon
        Tokens(tokenizer, settings.max_tokens, settings.tail_tokens),
        reference.as_input() if reference and settings.uses_reference else None,
        TaskNames(tuple(settings.tasks.labels), tuple(settings.tasks.told)),
        tuple(settings.retrieval_means),
        settings.reads_terms,
    )


def _curves(
    settings: Settings, scorer: GraphScorer, files: Mapping[str, FileRead], folder: Path
) -> tuple[CalibrationCurve | None, TaskCurves | None]:
    stored = settings.calibration
    if stored is None:
        return None, None
    if stored.graph_sha256 != scorer.session.sha256:
        raise ArtifactError(
            f"{files[GRAPH]}: not the graph this router was calibrated with; calibrate it again."
        )
    if stored.tokens_sha256 not in (None, scorer.tokens.sha256):
        raise ArtifactError(
            f"{files[TOKENIZER]}: not how this router read texts when it was calibrated; calibrate "
            "it again."
        )
    arrays = arrays_from_file(_file(files, CALIBRATION, folder))
    rule = rule_of(settings.labels, settings.costs_usd, settings.candidates)
    with said_of(folder / CALIBRATION):
        whole = _curve(arrays, stored, "", rule)
    about, curves = stored.by_task, {}
    if about is None:
        return whole, None
    for at, own in enumerate(about.curves):
        with said_of(f"{folder / CALIBRATION}, task {shown(own.label)}"):
            curves[own.label] = _curve(arrays, own, f"task {at}/", rule)
    return whole, TaskCurves(curves=curves, too_few=about.too_few, least=about.least, by=about.by)


def _curve(
    arrays: Mapping[str, NDArray[Any]], about: StoredCurve, prefix: str, rule: Rule
) -> CalibrationCurve:
    """Make a curve of its arrays, and walk its line again."""
    kept = [name for name in (f"{prefix}scores", f"{prefix}outcomes") if name in arrays]
    names = [*(prefix + name for name in LINE), *kept]
    found = dict(zip(names, _named(arrays, names), strict=True))
    for name, array in found.items():
        check_array(name, array, array.ndim)
    fields = {name.removeprefix(prefix): array.astype(np.float64) for name, array in found.items()}
    curve = CalibrationCurve(**fields, quality_range=about.quality_range, n=about.n)
    curve.check_walk(rule)
    return curve


def find(name_or_path: str | os.PathLike[str], revision: str | None) -> Path:
    """Find a router's folder, downloading it from the hub where the name is no folder.

    Raises:
        ArtifactError: If it is neither.
    """
    if name_or_path == BUNDLED:
        return Path(__file__).parent / BUNDLED
    path, name = Path(name_or_path), str(name_or_path)
    try:
        if path.exists() or found_again(path):
            return path
    except OSError as error:  # such as a name that is too long
        raise ArtifactError(f"{shown(name)}: cannot be read ({error.strerror}).") from error
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ArtifactError(
            f"{shown(name)[1:-1]}: no such folder, and not a hub name (owner/name)."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"{shown(name)[1:-1]}: no such folder, and the hub has it not or cannot be reached "
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
