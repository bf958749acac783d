"""From a dial to a threshold: by the promise where there is one, else by the estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shared_router.asking.task_labels import answers_to
from shared_router.deciding.by_task import resolve_setting
from shared_router.deciding.guarantee import (
    ESTIMATED,
    NO_PROMISE,
    NO_QUALITY_DIAL,
    NOT_PROMISED,
    OTHER_CANDIDATES,
    PROMISED,
    RETRIEVAL,
    SEVERAL_MODELS,
    UNCALIBRATED,
    UNKNOWN_TASK,
    void,
)
from shared_router.errors import ConfigurationError
from shared_router.options import ESTIMATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared_router.deciding.by_task import Setting, TaskCurves
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.guarantee import Claim
    from shared_router.deciding.promise import Promise
    from shared_router.options import Asked
    from shared_router.records import WiderBecause


def check_promisable(asked: Asked, why_void: str | None) -> None:
    """Refuse a confidence that the user wrote where the models are not those measured.

    Raises:
        ConfigurationError: With the way out.
    """
    if why_void == OTHER_CANDIDATES and asked.limits_quality and asked.confidence != ESTIMATE:
        raise ConfigurationError(
            f"confidence={asked.confidence} cannot be kept: the router was calibrated with other "
            "models than those bound. Calibrate it with their outcomes, state same_models=True "
            "where they are the same, or ask for confidence='estimate'."
        )


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What a calibration can promise, over all its queries and within tasks."""

    whole: Promise
    """Over all queries."""
    tasks: Mapping[str, Promise] = field(default_factory=dict)
    """Within each task that had enough labels."""
    rest: Promise | None = None
    """Over the mix of all other tasks; `None` where no task has one of its own, or too few queries
    are of others."""
    look: int = 1
    """The how manieth look at growing labels it is."""
    labels: str | None = None
    """Digest of the labels they were tested on, which tells whether later ones hold the same."""
    with_retrieval: bool | None = None
    """Whether all queries came with facts of their retrieval, or none did; `None` where both were
    among them, or the router sees none."""
    by_conversation: bool = False
    """Whether whole conversations were labelled: then they hold where a conversation keeps its
    model, per conversation."""

    def find(self, label: str | None) -> tuple[Promise | None, str | None]:
        """Find the promise of a call, and the task under whose label it is scored.

        Args:
            label: The call's task.

        Returns:
            The promise, `None` where none was tested on such calls: those of the rest where that
            was too few, and those of a suite that holds a task with a promise of its own.
        """
        if label is None or not self.tasks:
            return self.whole, None
        if label in self.tasks:
            return self.tasks[label], label
        return None if any(answers_to(own, label) for own in self.tasks) else self.rest, None


@dataclass(frozen=True, kw_only=True)
class Dialling:
    """What resolves dials."""

    curve: CalibrationCurve | None
    """The estimate, over all queries; `None` where nothing is calibrated."""
    tasks: TaskCurves | None = None
    """The estimates within tasks."""
    promises: Promises | None = None
    """What can be promised; `None` where nothing was tested."""
    models: int = 2
    """How many candidates there are."""
    void: str | None = None
    """Why nothing that was measured holds here, such as `other candidates`."""

    @property
    def by_conversation(self) -> bool:
        """Whether whole conversations were measured."""
        return self.promises is not None and self.promises.by_conversation

    def unlike(self, *, with_retrieval: bool, with_task: bool) -> str | None:
        """Say why a call is none that was measured.

        Args:
            with_retrieval: Whether it has facts of its retrieval.
            with_task: Whether it names its task; a calibration by the tasks that texts tell
                measured none that is named.
        """
        measured = self.promises.with_retrieval if self.promises else None
        if measured not in (None, with_retrieval):
            return RETRIEVAL
        predicted = self.tasks is not None and self.tasks.by == "predicted"
        return UNKNOWN_TASK if with_task and predicted else None

    def resolve(self, asked: Asked, label: str | None = None, void: str | None = None) -> Setting:
        """Resolve a dial for one call.

        Args:
            asked: The dial, who wrote it and how sure it must be.
            label: The call's task.
            void: Why this call is none that was measured.

        Returns:
            The setting, and what it claims.

        Raises:
            NotCalibratedError: If the dial needs a calibration and there is none.
            DialError: If a relative drop is asked of qualities that span zero.
        """
        found = resolve_setting(asked.dial, self.curve, self.tasks, label)
        if self.curve is None:
            return replace(found, claim=UNCALIBRATED)
        if not asked.limits_quality:
            return replace(found, claim=NO_QUALITY_DIAL)
        return self._limited(found, asked, label, self.void or void)

    def _limited(
        self, estimate: Setting, asked: Asked, label: str | None, reason: str | None
    ) -> Setting:
        """Resolve a limit: what is not as measured goes by the estimate."""
        if reason is not None and reason != UNKNOWN_TASK:
            return replace(estimate, claim=void(reason))
        if asked.confidence == ESTIMATE:
            return replace(estimate, claim=ESTIMATED)
        if self.models > 2:
            return replace(estimate, claim=SEVERAL_MODELS)
        unseen = self.tasks is not None and estimate.because == "unknown_task"
        if unseen or reason == UNKNOWN_TASK:
            claim = void(UNKNOWN_TASK)
            return (
                self._refused(estimate, claim) if asked.written else replace(estimate, claim=claim)
            )
        return self._promised(estimate, asked, label)

    def _promised(self, estimate: Setting, asked: Asked, label: str | None) -> Setting:
        confidence = asked.confidence
        if self.promises is not None and isinstance(confidence, float):
            promise, task = self.promises.find(label)
            step = 0 if promise is None else promise.step(asked.dial, confidence)
            if promise is not None and step > 0:
                wider: WiderBecause | None = None if task else "too_few"
                return replace(
                    estimate,
                    threshold=float(promise.thresholds[step]),
                    task=task,
                    because=estimate.because if task == estimate.task else wider,
                    claim=PROMISED,
                    confidence=confidence,
                )
        if asked.written:
            return self._refused(estimate, NO_PROMISE)
        return replace(estimate, claim=NOT_PROMISED)

    def _refused(self, estimate: Setting, claim: Claim) -> Setting:
        return replace(estimate, threshold=math.inf, claim=claim, refused=True)
