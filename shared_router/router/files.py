"""Reading a router: from its folder, or from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shared_router.deciding.by_task import TaskCurves, check_calibration
from shared_router.deciding.checks import check_array
from shared_router.deciding.curve import CalibrationCurve
from shared_router.deciding.pooling import OutOfFold
from shared_router.deciding.rule import rule_of
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.retrieval import RETRIEVAL_NAMES
from shared_router.router.promise_files import read_probes, read_promises
from shared_router.router.read import (
    ANSWER_GRAPH,
    BUNDLED,
    CALIBRATION,
    GRAPH,
    LOOKS,
    OUT_OF_FOLD,
    PAIRS,
    SETTINGS,
    TOKENIZER,
    TRAIN_MEMORY,
    arrays_from_file,
    read_folder,
)
from shared_router.router.schema import WAY_OUT, parse_settings, said_of
from shared_router.router.state import RouterState
from shared_router.router.swap import found_again
from shared_router.serving.answer_numbers import number_names
from shared_router.serving.answers import GraphAnswerScorer
from shared_router.serving.features import feature_names
from shared_router.serving.memory import TrainMemory, check_memory
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.second_look import LooksLine, Pairs, SecondLook
from shared_router.serving.session import GraphSession
from shared_router.serving.task_names import TaskNames
from shared_router.serving.tokens import Tokens
from shared_router.support.names import shown

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.rule import Rule
    from shared_router.deciding.settings import Promises
    from shared_router.router.read import FileRead
    from shared_router.router.schema import Settings, StoredCurve, StoredTasks
    from shared_router.serving.probes import Probes

R = TypeVar("R", bound=RouterState)

LINE = ("thresholds", "cost_advantage", "quality")
"""Arrays of a curve that every calibration has."""


def load(kind: type[R], folder: Path) -> R:
    """Read a router from its folder; see `Router.from_pretrained`.

    Raises:
        ArtifactError: If it is missing, corrupt, truncated, foreign or of a newer format, or breaks
            a rule, such as a calibration that is not the one its queries give.
    """
    files = read_folder(folder)
    settings = parse_settings(_file(files, SETTINGS, folder).content, str(folder / SETTINGS))
    _check_features(settings, folder)
    fields = _fields(settings, files, folder)
    with said_of(folder / SETTINGS):
        return kind(**fields)


def _file(files: Mapping[str, FileRead], name: str, folder: Path) -> FileRead:
    if name not in files:
        raise ArtifactError(f"{folder}: its manifest lists no {name!r}; copy the folder again.")
    return files[name]


def _check_features(settings: Settings, folder: Path) -> None:
    facts = len(settings.retrieval_means)
    known = facts in (0, len(RETRIEVAL_NAMES))
    if not known or settings.features != feature_names(facts, settings.reads_terms):
        raise ArtifactError(
            f"{folder / SETTINGS}: fitted with other query features than this hybrid-llm computes; "
            "fit the router anew, or install the version that wrote it."
        )


def _fields(settings: Settings, files: Mapping[str, FileRead], folder: Path) -> dict[str, Any]:
    with said_of(folder / TRAIN_MEMORY):
        memory = _train_memory(settings, files)
    scorer = _scorer(settings, memory, files, folder)
    curve, task_curves = _curves(settings, scorer, files, folder)
    promises, probes = _promises(settings, files, folder)
    looks = _second_look(settings, scorer, files, folder)
    with said_of(folder / OUT_OF_FOLD):
        unseen = _out_of_fold(files)
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
        "promises": promises,
        "out_of_fold": unseen,
        "probes": probes,
        "second_look": looks,
        "default_dial": settings.default_dial and settings.default_dial.dial,
        "train_memory": memory,
        "fitted_ids": frozenset(settings.fitted_ids),
        "calibrated_ids": frozenset(settings.calibrated_ids),
        "facts": settings.facts,
    }


def _train_memory(settings: Settings, files: Mapping[str, FileRead]) -> TrainMemory | None:
    if TRAIN_MEMORY not in files:
        if settings.uses_reference:
            raise ConfigurationError("The settings say uses_reference, and there is no such file.")
        return None
    kept = arrays_from_file(files[TRAIN_MEMORY])
    memory = TrainMemory(*_named(kept, ("embeddings", "gaps")))
    check_memory(memory, len(settings.candidates))
    return memory


def _named(arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> list[NDArray[Any]]:
    """Take the arrays of these names."""
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ConfigurationError(f"It holds the arrays {', '.join(names)}; got no {missing[0]}.")
    return [arrays[name] for name in names]


def _scorer(
    settings: Settings, memory: TrainMemory | None, files: Mapping[str, FileRead], folder: Path
) -> GraphScorer:
    graph = _file(files, GRAPH, folder)
    try:
        tokenizer = _file(files, TOKENIZER, folder).read_text()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{folder / TOKENIZER}: not UTF-8 text. {WAY_OUT}") from error
    return GraphScorer(
        GraphSession(graph.path, graph.sha256, graph.content),  # another may be saved there soon
        Tokens(tokenizer, settings.max_tokens, settings.tail_tokens),
        memory.as_input() if memory and settings.uses_reference else None,
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
    return whole, _task_curves(arrays, stored.by_task, "", rule, folder)


def _task_curves(
    arrays: Mapping[str, NDArray[Any]],
    about: StoredTasks | None,
    line: str,
    rule: Rule,
    folder: Path,
) -> TaskCurves | None:
    """Make the curves of tasks, under what names their line."""
    if about is None:
        return None
    curves = {}
    for at, own in enumerate(about.curves):
        with said_of(f"{folder / CALIBRATION}, task {shown(own.label)}"):
            curves[own.label] = _curve(arrays, own, f"{line}task {at}/", rule)
    return TaskCurves(curves=curves, too_few=about.too_few, least=about.least, by=about.by)


def _second_look(
    settings: Settings, scorer: GraphScorer, files: Mapping[str, FileRead], folder: Path
) -> SecondLook | None:
    """Read second looks; older routers have none."""
    stored = settings.second_look
    if stored is None:
        return None
    if tuple(stored.numbers) != number_names(with_logprobs=stored.needs_logprobs):
        raise ArtifactError(
            f"{folder / SETTINGS}: its scorer of answers was fitted with other numbers than this "
            "hybrid-llm computes; fit the router anew, or install the version that wrote it."
        )
    graph = _file(files, ANSWER_GRAPH, folder)
    session = GraphSession(graph.path, graph.sha256, graph.content)
    own = GraphAnswerScorer(session, scorer.tokens, scorer, stored.needs_logprobs)
    line, probes = _looks_line(settings, session, files, folder)
    with said_of(folder / PAIRS):
        pairs = _pairs(files, len(settings.candidates))
    return SecondLook(
        scorer=own,
        width=stored.width,
        after=stored.after,
        pays=stored.pays,
        settings=stored.settings,
        pairs=pairs,
        probes=probes,
        line=line,
        facts=settings.facts.get("training", {}).get("second_look", {}),
    )


def _pairs(files: Mapping[str, FileRead], k: int) -> Pairs | None:
    """Read the training queries' pairs of scores, where they were kept."""
    if PAIRS not in files:
        return None
    pairs = Pairs(*_named(arrays_from_file(files[PAIRS]), ("scores", "answers", "outcomes")))
    if pairs.outcomes.shape[1] != k:
        raise ConfigurationError(
            f"Its outcomes have a column per candidate, {k}; got {pairs.outcomes.shape[1]}."
        )
    return pairs


def _looks_line(
    settings: Settings, session: GraphSession, files: Mapping[str, FileRead], folder: Path
) -> tuple[LooksLine | None, Probes | None]:
    stored = settings.second_look.line if settings.second_look else None
    if stored is None or settings.calibration is None:
        return None, None
    if stored.graph_sha256 != session.sha256:
        raise ArtifactError(
            f"{files[ANSWER_GRAPH]}: not the graph this router was calibrated with; calibrate it "
            "again."
        )
    arrays = arrays_from_file(_file(files, CALIBRATION, folder))
    rule = rule_of(settings.labels, settings.costs_usd, settings.candidates)
    with said_of(folder / CALIBRATION):
        line = LooksLine(
            curve=_curve(arrays, stored, LOOKS, rule),
            task_curves=_task_curves(arrays, stored.by_task, LOOKS, rule, folder),
            promises=read_promises(arrays, stored.promises, LOOKS),
        )
        k = len(settings.candidates)
        check_calibration(line.curve, line.task_curves, k)
        return line, read_probes(arrays, stored.probes_spread, k, LOOKS)


def _promises(
    settings: Settings, files: Mapping[str, FileRead], folder: Path
) -> tuple[Promises | None, Probes | None]:
    stored = settings.calibration
    if stored is None or (stored.promises is None and stored.probes_spread is None):
        return None, None
    arrays = arrays_from_file(_file(files, CALIBRATION, folder))
    with said_of(folder / CALIBRATION):
        promises = read_promises(arrays, stored.promises)
        return promises, read_probes(arrays, stored.probes_spread, len(settings.candidates))


def _out_of_fold(files: Mapping[str, FileRead]) -> OutOfFold | None:
    """Read the training queries' scores; older routers kept none."""
    if OUT_OF_FOLD not in files:
        return None
    return OutOfFold(*_named(arrays_from_file(files[OUT_OF_FOLD]), ("scores", "outcomes")))


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
        return Path(__file__).parent.parent / BUNDLED
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
