"""Labels: what a router is trained to predict, from sampled qualities.

`det`, `prob` and `trans` are the three routers of the paper; `gap` is the expected quality gap,
which tells a tie from a win. Source: Hybrid LLM (Ding et al., ICLR 2024), sections 3.1-3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from shared_router.errors import LabelError
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset

LabelKind = Literal["gap", "det", "prob", "trans"]
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)

MAX_GRID = 512
"""Most values of t that the search tries."""


class DegenerateLabelWarning(UserWarning):
    """Labels carry less than their kind promises."""


@dataclass(frozen=True)
class Labels:
    """Training targets of one kind."""

    kind: LabelKind
    """`gap`, `det`, `prob` or `trans`."""
    values: NDArray[np.float64]
    """Shape (n, k - 1): gaps in the metric's units, or probabilities in [0, 1]."""
    t: tuple[float, ...] | None = None
    """Relaxation `t*` per candidate, for `trans`, in the metric's units."""


def gini_mean_difference(values: NDArray[np.float64]) -> float:
    """Compute the mean absolute difference over all ordered pairs in O(N log N).

    `(1 / N^2) * sum_{i, i'} |y_i - y_i'|`, by sorting: the i-th smallest of N values enters
    2 i - N - 1 times.

    Args:
        values: Shape (N,), N at least 1.

    Returns:
        The mean difference, at least 0, in the values' units.

    Source: Hybrid LLM (Ding et al., ICLR 2024), equation 4 (the objective of t*).
    """
    n = len(values)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(2 * (weights @ np.sort(values)) / n**2)


def win_probability(
    small: NDArray[np.float64], reference: NDArray[np.float64], t: float = 0.0
) -> float:
    """Estimate `Pr[q_small >= q_reference - t]` over all pairs of sampled responses.

    Args:
        small: Sampled qualities of the candidate, shape (a,).
        reference: Sampled qualities of the reference, shape (b,).
        t: Relaxation in the metric's units.

    Returns:
        Share of the a * b pairs, in [0, 1].

    Source: Hybrid LLM (Ding et al., ICLR 2024), sections 3.2 and 3.3.
    """
    # The difference as `find_t` takes it: `small >= reference - t` may round the other way.
    return float(np.mean(reference[None, :] - small[:, None] <= t))


def find_t(small: Sequence[NDArray[np.float64]], reference: Sequence[NDArray[np.float64]]) -> float:
    """Search the relaxation `t*` that spreads the labels furthest apart.

    `t* = argmax_{t >= 0} (1 / N^2) sum_{i, i'} |y_i(t) - y_i'(t)|`. The labels change only at
    the observed values of `q_reference - q_small`, so those are the grid: all of them where they
    are few, else their quantiles.

    Args:
        small: Sampled qualities of the candidate, one array per query.
        reference: The same of the reference.

    Returns:
        The least `t` that reaches the maximum; 0 where no relaxation helps.

    Source: Hybrid LLM (Ding et al., ICLR 2024), equation 4.
    """
    lacks = [
        np.sort(np.subtract.outer(r, s).ravel()) for s, r in zip(small, reference, strict=True)
    ]
    grid = _grid(np.concatenate(lacks))
    spread = np.array(
        [
            gini_mean_difference(labels)
            # Row i: share of pairs of query i whose lack is at most t, for every t of the grid.
            for labels in np.array(
                [np.searchsorted(lack, grid, side="right") / len(lack) for lack in lacks]
            ).T
        ]
    )
    return float(grid[np.argmax(spread >= spread.max() - 1e-12)])


def _grid(lacks: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = np.unique(lacks[lacks > 0])
    if len(positive) >= MAX_GRID:
        positive = np.unique(
            np.quantile(positive, np.linspace(0, 1, MAX_GRID - 1), method="nearest")
        )
    return np.concatenate([[0.0], positive])


def make_labels(data: RoutingDataset, candidates: Sequence[str], kind: LabelKind = "gap") -> Labels:
    """Make the training targets of one kind.

    Args:
        data: Records in which every candidate has an outcome.
        candidates: Names, the reference last.
        kind: `gap` for `E[q_j - q_ref]`; `det` for `1[q_j >= q_ref]` on the first response of
            each; `prob` for `Pr[q_j >= q_ref]` over all response pairs; `trans` for
            `Pr[q_j >= q_ref - t*]`.

    Returns:
        Labels of shape (n, k - 1).

    Raises:
        LabelError: If the kind is unknown, all labels are one value, or `trans` is asked of
            hard 0/1 labels.

    Warns:
        DegenerateLabelWarning: If `prob` has one sample per model, which makes it `det`.
    """
    if kind not in LABEL_KINDS:
        raise LabelError(f"labels is one of {', '.join(LABEL_KINDS)}; got {kind!r}.")
    if kind in ("prob", "trans"):
        _check_samples(data, candidates, kind)
    reference = data.samples(candidates[-1])
    columns, ts = [], []
    for name in candidates[:-1]:
        values, t = _column(data.samples(name), reference, kind)
        _check_spread(values, name, candidates[-1], kind)
        columns.append(values)
        ts.append(t)
    return Labels(kind, np.stack(columns, axis=1), tuple(ts) if kind == "trans" else None)


def _column(
    small: list[NDArray[np.float64]], reference: list[NDArray[np.float64]], kind: LabelKind
) -> tuple[NDArray[np.float64], float]:
    pairs = list(zip(small, reference, strict=True))
    if kind == "gap":
        return np.array([s.mean() - r.mean() for s, r in pairs]), 0.0
    if kind == "det":
        return np.array([float(s[0] >= r[0]) for s, r in pairs]), 0.0
    t = find_t(small, reference) if kind == "trans" else 0.0
    if kind == "trans" and t == 0:
        warn(
            "`trans` found t* = 0: no relaxation spreads these labels further, so they are those "
            "of `prob`.",
            DegenerateLabelWarning,
        )
    return np.array([win_probability(s, r, t) for s, r in pairs]), t


def _check_samples(data: RoutingDataset, candidates: Sequence[str], kind: LabelKind) -> None:
    most = max(len(record.outcomes[name].quality) for record in data for name in candidates)
    if most > 1:
        return
    if kind == "trans":
        raise LabelError(
            f"{data.name}: `trans` needs several sampled responses per model and query, and there "
            "is one of each. On such hard labels t* is no more than a median: use `gap` or `det`, "
            "or sample more responses."
        )
    warn(
        f"{data.name}: `prob` from one sampled response per model is the same as `det`; sample "
        "several responses for soft labels.",
        DegenerateLabelWarning,
    )


def _check_spread(values: NDArray[np.float64], name: str, reference: str, kind: LabelKind) -> None:
    if np.ptp(values) > 0:
        return
    raise LabelError(
        f"All {len(values)} `{kind}` labels of {name!r} against {reference!r} are {values[0]:g}: "
        "there is nothing to learn. Use more varied queries"
        + (", or `trans`, which relaxes the comparison." if kind in ("det", "prob") else ".")
    )
