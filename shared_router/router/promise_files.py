"""Promises in a router's folder: arrays by name, and what stands beside them in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.checks import check_array, check_finite, check_rule
from shared_router.deciding.promise import Look, Promise
from shared_router.deciding.settings import Promises
from shared_router.errors import ConfigurationError
from shared_router.serving.probes import PROBES as TEXTS
from shared_router.serving.probes import Probes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from shared_router.router.schema import StoredPromises

    Arrays = Mapping[str, NDArray[Any]]

LOOK = ("upper", "upper_relative")
"""Arrays of a look."""
PROBES = "probes"
OWNER = "A calibration"


def _parts(promises: Promises) -> Iterator[tuple[dict[str, Any], Promise]]:
    """Name every promise, and give it."""
    yield {"of": "whole"}, promises.whole
    for label, own in promises.tasks.items():
        yield {"of": "task", "label": label}, own
    if promises.rest is not None:
        yield {"of": "rest"}, promises.rest


def promise_arrays(
    promises: Promises | None, probes: Probes | None, line: str = ""
) -> dict[str, NDArray[Any]]:
    """Name the arrays of promises and probes, under what names their line."""
    arrays: dict[str, NDArray[Any]] = {}
    for at, (_, own) in enumerate(_parts(promises) if promises else ()):
        part = f"{line}promise {at}/"
        arrays |= {f"{part}thresholds": own.thresholds, f"{part}shares": own.shares}
        for number, look in enumerate(own.looks):
            arrays |= {f"{part}look {number}/{name}": getattr(look, name) for name in LOOK}
    return arrays if probes is None else arrays | {line + PROBES: probes.scores}


def promise_settings(promises: Promises | None) -> dict[str, Any] | None:
    """Return what stands in the settings."""
    if promises is None:
        return None
    parts = [
        about | {"method": own.method, "looks": [look.n for look in own.looks]}
        for about, own in _parts(promises)
    ]
    about = {"look": promises.look, "labels": promises.labels}
    # Older versions, which know single questions alone, refuse what they would promise wrongly.
    whole = {"by_conversation": True} if promises.by_conversation else {}
    return {"parts": parts, "with_retrieval": promises.with_retrieval} | about | whole


def read_promises(arrays: Arrays, stored: StoredPromises | None, line: str = "") -> Promises | None:
    """Make promises of their arrays, under what names their line.

    Raises:
        ConfigurationError: If one is missing, or breaks a rule.
    """
    if stored is None:
        return None
    found: dict[tuple[str, str | None], Promise] = {}
    for at, part in enumerate(stored.parts):
        looks = tuple(
            Look(
                n=n,
                **{name: _named(arrays, f"{line}promise {at}/look {i}/{name}") for name in LOOK},
            )
            for i, n in enumerate(part.looks)
        )
        found[part.of, part.label] = Promise(
            thresholds=_named(arrays, f"{line}promise {at}/thresholds"),
            shares=_named(arrays, f"{line}promise {at}/shares"),
            looks=looks,
            method=part.method,
        )
    return Promises(
        whole=found["whole", None],
        tasks={str(label): own for (of, label), own in found.items() if of == "task"},
        rest=found.get(("rest", None)),
        look=stored.look,
        labels=stored.labels,
        with_retrieval=stored.with_retrieval,
        by_conversation=stored.by_conversation,
    )


def read_probes(arrays: Arrays, spread: float | None, k: int, line: str = "") -> Probes | None:
    """Make probes of their array, under what names their line.

    Raises:
        ConfigurationError: If it is missing, or not of k candidates.
    """
    if spread is None:
        return None
    scores = _named(arrays, line + PROBES)
    check_array(PROBES, scores, 2, OWNER)
    check_finite(PROBES, scores, OWNER)
    shape = (len(TEXTS), k - 1)
    check_rule(scores.shape == shape, PROBES, f"are of shape {shape}", scores.shape, OWNER)
    return Probes(scores.astype(np.float32), spread)


def _named(arrays: Arrays, name: str) -> NDArray[Any]:
    if name not in arrays:
        raise ConfigurationError(f"It holds the array {name!r}; got none.")
    return arrays[name]
