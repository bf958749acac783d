"""Second looks in a router's folder: a graph, arrays, and what stands in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_router.errors import ConfigurationError
from shared_router.router.folder import arrays_to_bytes
from shared_router.router.promise_files import promise_arrays, promise_settings
from shared_router.router.read import ANSWER_GRAPH, LOOKS, PAIRS
from shared_router.serving.answer_numbers import number_names
from shared_router.serving.answers import GraphAnswerScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.router.state import RouterState
    from shared_router.serving.second_look import LooksLine, SecondLook


def _graph_scorer(looks: SecondLook) -> GraphAnswerScorer:
    if isinstance(looks.scorer, GraphAnswerScorer):
        return looks.scorer
    raise ConfigurationError(
        "Only a fitted scorer of answers can be saved; this router's is a "
        f"{type(looks.scorer).__name__}."
    )


def look_files(router: RouterState) -> dict[str, bytes]:
    """Write the files of second looks: their graph, and the training queries' pairs.

    Raises:
        ConfigurationError: If the scorer of answers is no graph.
    """
    looks = router.second_look
    if looks is None:
        return {}
    files = {ANSWER_GRAPH: _graph_scorer(looks).session.bytes}
    if (pairs := looks.pairs) is not None:
        arrays = {name: getattr(pairs, name) for name in ("scores", "answers", "outcomes")}
        files[PAIRS] = arrays_to_bytes(arrays)
    return files


def look_arrays(looks: SecondLook | None, curves: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Name the arrays of the line with looks.

    Args:
        looks: The second looks.
        curves: Arrays of its curves, named under `LOOKS`.
    """
    if looks is None or looks.line is None:
        return {}
    return curves | promise_arrays(looks.line.promises, looks.probes, LOOKS)


def look_settings(
    looks: SecondLook | None, line_settings: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Return what stands in the settings.

    Args:
        looks: The second looks.
        line_settings: What stands of its curves.
    """
    if looks is None:
        return None
    return {
        "width": looks.width,
        "after": looks.after,
        "pays": looks.pays,
        "needs_logprobs": looks.scorer.needs_logprobs,
        "numbers": list(number_names(with_logprobs=looks.scorer.needs_logprobs)),
        "settings": looks.settings.model_dump() if looks.settings else None,
        "line": _line_settings(looks, looks.line, line_settings or {}),
    }


def _line_settings(
    looks: SecondLook, line: LooksLine | None, curves: dict[str, Any]
) -> dict[str, Any] | None:
    if line is None:
        return None
    return curves | {
        "graph_sha256": _graph_scorer(looks).session.sha256,
        "promises": promise_settings(line.promises),
        "probes_spread": looks.probes.spread if looks.probes else None,
    }
