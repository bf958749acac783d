"""Decide on one query of a log as serving would, from its text or from scores kept earlier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.guarantee import claim_of
from shared_router.errors import ArtifactError, ConfigurationError, DataError, ScoringError
from shared_router.records import Candidate
from shared_router.retrieval import RetrievalFacts
from shared_router.serving.scorer import GraphScorer

if TYPE_CHECKING:
    from shared_router.bulk.runner import Row
    from shared_router.deciding.by_task import Setting
    from shared_router.options import Asked
    from shared_router.records import Reason
    from shared_router.router.state import RouterState

    Scores = list[np.float32]

NOT_OF_ONE_QUERY = (ArtifactError, ConfigurationError, ImportError)
"""Errors of the router as a whole: going on with the next query would meet them again."""
SETTINGS_KEPT = 1024
"""Labels whose setting is remembered."""


@dataclass(frozen=True)
class Found:
    """What is known of a query before its candidate is chosen."""

    scores: Scores | None = None
    told: str | None = None
    """The task that its text tells, where no task was given and the calibration goes by that."""
    error: str | None = None


class Decider:
    """Chooses a candidate for one query after another."""

    def __init__(self, router: RouterState, asked: Asked, *, keep_text: bool = False) -> None:
        self._router, self._asked, self._keep_text = router, asked, keep_text
        self._policy = router.policy(tuple(map(Candidate, router.candidates)), asked)
        self._dialling = router.dialling()
        self._setting = lru_cache(SETTINGS_KEPT)(self._resolved)

    def __call__(self, row: Row) -> Row:
        """Decide on one query, read as `QueryRows` or `ScoredRows` give it."""
        known = "scores" in row
        given = row.get("task") if row.get("task_source", "given") == "given" else None
        known_facts = "retrieval" in row or row.get("with_retrieval") is True
        facts = known_facts and self._router.sees_retrieval
        kind = facts, bool(given)
        label = self._policy.label_for(self._asked.dial, self._setting(given, *kind), given)
        under = self._effective(label)
        found = self._known(row, given, under) if known else self._scored(row, label)
        names, setting = self._router.candidates, self._setting(given or found.told, *kind)
        index = len(names) - 1  # where there are no scores, the reference
        if found.scores is not None:
            scores = [float(score) for score in found.scores]
            index = self._router.rule.choose_one(scores, setting.threshold)
        decided: Row = {
            "id": row["id"],
            "candidate": names[index],
            "scores": found.scores and dict(zip(names[:-1], map(short, found.scores), strict=True)),
            "length": row["length"],
        }
        to_reference = index == len(names) - 1
        reason: Reason = "score" if found.error is None else "router_error"
        claim = claim_of(reason, setting.claim, to_reference=to_reference)
        decided["guarantee"] = claim.guarantee
        decided |= _of_tasks(given, found.told, setting, under)
        if facts:
            decided["with_retrieval"] = True
        if self._keep_text and "text" in row:
            decided["text"] = row["text"]
        if found.error is not None:
            decided["error"] = found.error
        return decided | {"router": self._router.version}

    def _resolved(self, task: str | None, with_retrieval: bool, with_task: bool) -> Setting:
        unlike = self._dialling.unlike(with_retrieval=with_retrieval, with_task=with_task)
        return self._dialling.resolve(self._asked, task, unlike)

    def _effective(self, label: str | None) -> str | None:
        """Find the label that moves the scores, if any does."""
        scorer = self._router.scorer
        if isinstance(scorer, GraphScorer):
            return scorer.tasks.known(label)
        return label if getattr(scorer, "takes_tasks", False) else None

    def _known(self, row: Row, given: str | None, under: str | None) -> Found:
        """Take the scores of an earlier output, if they rest on what the dial asks for.

        Raises:
            DataError: If they do not.
        """
        if row["scores"] is None:
            return Found(error=row.get("error"))
        if row.get("scored_under") != under:
            raise DataError(
                f"id {row['id']!r}: its scores stand under the task {row.get('scored_under')!r}, "
                f"and this dial decides under {under!r}: score the queries themselves."
            )
        tasks = self._router.task_curves
        tells = tasks is not None and tasks.by == "predicted" and given is None
        told = row.get("task") if tells else None
        if tells and told is None:
            raise DataError(
                f"id {row['id']!r}: scored before this router went by the task that a text tells: "
                "score the queries themselves."
            )
        scores = [np.float32(row["scores"][name]) for name in self._router.candidates[:-1]]
        return Found(scores, told)

    def _scored(self, row: Row, label: str | None) -> Found:
        facts = RetrievalFacts(**row["retrieval"]) if "retrieval" in row else None
        try:
            scored = self._router.scored(row["text"], label, facts)
            scores = list(np.asarray(scored.scores, dtype=np.float32))
            if not np.isfinite(scores).all():
                raise ScoringError("A scorer returns finite numbers.")
        except NOT_OF_ONE_QUERY:
            raise
        except Exception as error:  # noqa: BLE001  one query never ends a run; it is recorded
            return Found(error=type(error).__name__)
        return Found(scores, scored.task)


def _of_tasks(
    given: str | None, told: str | None, setting: Setting, under: str | None
) -> dict[str, Any]:
    """Say what the task was, who named it, and what it did; nothing where there was none."""
    if given is None and told is None:
        return {}
    source = "predicted" if given is None else "given"
    said = {"task": given or told, "task_source": source, "calibrated_task": setting.task}
    return {k: v for k, v in (said | {"scored_under": under}).items() if v is not None}


def short(score: np.float32) -> float:
    """Write a score in the fewest digits that give the same float32 again."""
    return float(str(score))
