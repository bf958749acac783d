"""What a limit gives now, said once where an application is built: promised, estimated, missing."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.promise import CONFIDENCES, FIRST_LOOK
from shared_router.options import ESTIMATE, QUALITY_DIALS, Asked, Dial
from shared_router.records import MOST_NAMED
from shared_router.router.promising import LEAST_TESTED

if TYPE_CHECKING:
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.options import Confidence
    from shared_router.router.state import RouterState

LADDER = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Relative limits that are tried in place of one that cannot be promised."""

NOT_EXACT = 1.05
"""What the exact test needs beyond `log(1 / error) / limit` queries without a loss: it finds its
critical values between shares, and for few numbers of queries."""


def promised_share(router: RouterState, dial: Dial, confidence: Confidence) -> float:
    """Return the share of calls kept from the reference within a limit that is promised; 0 if none.

    Args:
        router: The router.
        dial: A quality dial.
        confidence: How sure it must be.
    """
    limit = dial.name in QUALITY_DIALS
    if router.promises is None or not isinstance(confidence, float) or not limit:
        return 0.0
    return router.promises.whole.share_within(dial, confidence)


def missing_labels(curve: CalibrationCurve | None, dial: Dial, confidence: float) -> int | None:
    """Reckon how many labels would promise something at a limit, if more are like those known.

    Args:
        curve: The estimate.
        dial: A quality dial.
        confidence: How sure it must be.

    Returns:
        The number; `None` where no number would do, or it cannot be told.
    """
    if curve is None or curve.scores is None or curve.outcomes is None or dial.value <= 0:
        return None
    if confidence > CONFIDENCES[-1]:
        return None
    sure = next(known for known in CONFIDENCES if known >= confidence)
    error = (1 - sure) * FIRST_LOOK
    scale = 1.0 if dial.name == "max_quality_drop_absolute" else abs(curve.reference_quality)
    limit = dial.value * scale
    least = NOT_EXACT * math.log(1 / error) / limit if limit > 0 else math.inf
    gaps = (curve.outcomes[:, -1] - curve.outcomes[:, 0])[np.argsort(-curve.scores[:, 0])]
    n = len(gaps)
    drops, squares = np.cumsum(gaps) / n, np.cumsum(gaps**2) / n
    from_here = np.maximum.accumulate(drops)  # each setting before it must hold too
    spare = limit - from_here
    settings = spare[max(0, n // 100) :] > 0
    if not settings.any():
        return None
    z = NormalDist().inv_cdf(error)
    needed = z * z * np.maximum(squares - drops**2, 0) / np.maximum(spare, 1e-12) ** 2
    found = float(needed[max(0, n // 100) :][settings].min())
    return math.ceil(max(found, least, LEAST_TESTED))


def said_of_limit(router: RouterState, asked: Asked) -> str:
    """Say what becomes of calls under a limit that cannot be promised, and what would.

    Args:
        router: The router.
        asked: The limit.
    """
    dial, confidence = asked.dial, asked.confidence
    curve = router.estimate
    sure = confidence if isinstance(confidence, float) else 0.0
    cannot = (
        f"{dial.name}={dial.value:g} cannot be promised at confidence {confidence} by router "
        f"{router.name!r}{_why(router)}: every call under it goes to the reference"
        f"{_but_for(router, asked)}."
    )
    parts = [cannot]
    if curve is not None:
        parts += _promised_now(router, curve, asked)
        kept = curve.cost_advantage_at(dial)
        parts.append(f"The estimate (confidence={ESTIMATE!r}) would keep {kept:.0%}.")
        parts.append(_missing(curve, dial, sure, router))
    return " ".join(parts)


def _why(router: RouterState) -> str:
    if router.promises is not None:
        return f", calibrated on {router.promises.whole.n} queries"
    why = router.facts.get("calibration", {}).get("no_promise")
    return f" ({why})" if why else " (calibrated before promises were tested: calibrate it again)"


def _promised_now(router: RouterState, curve: CalibrationCurve, asked: Asked) -> list[str]:
    """Name the least wider limit that can be promised, if any can."""
    relative = asked.dial.name == "max_quality_drop"
    scale = 1.0 if relative else abs(curve.reference_quality)
    for limit in LADDER:
        share = promised_share(router, Dial("max_quality_drop", limit), asked.confidence)
        if limit * scale > asked.dial.value and share > 0:
            kept = f"which keeps {share:.0%} of calls from it."
            return [f"Promised now: max_quality_drop={limit:g}, {kept}"]
    return []


def _but_for(router: RouterState, asked: Asked) -> str:
    """Name the tasks whose own labels promise it."""
    tasks = router.promises.tasks if router.promises is not None else {}
    sure = asked.confidence
    held = [
        label
        for label, own in tasks.items()
        if isinstance(sure, float) and own.step(asked.dial, sure) > 0
    ]
    named = ", ".join(held[:MOST_NAMED]) + (", ..." if len(held) > MOST_NAMED else "")
    return f", but for those of the tasks it is promised for ({named})" if held else ""


def _missing(curve: CalibrationCurve, dial: Dial, confidence: float, router: RouterState) -> str:
    wanted = missing_labels(curve, dial, confidence)
    known = router.promises.whole.n if router.promises is not None else curve.n
    if confidence > CONFIDENCES[-1]:
        return f"Promises are tested at confidences up to {CONFIDENCES[-1]:g}."
    if wanted is None:
        return "No number of labels like these would promise it."
    if wanted <= known:
        return "A few more labels may promise something at it."
    return f"About {wanted - known} more labels would promise something at it."
