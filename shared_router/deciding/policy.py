"""The rules in their order, without I/O: a generator that asks for scores and returns a verdict.

It yields `Score` and receives the result, or has the exception thrown in; see `drivers`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.guarantee import OTHER_SETTINGS, UNRESOLVED
from shared_router.deciding.guards import (
    RoutingRequest,
    allowed_candidates,
    position_of,
)
from shared_router.deciding.looks import Looking
from shared_router.deciding.settings import check_promisable
from shared_router.deciding.staying import Staying
from shared_router.deciding.stickiness import sticky_position
from shared_router.errors import ConfigurationError, ScoringError
from shared_router.options import AUTO, Asked
from shared_router.support.processes import cached_property

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from shared_router.deciding.by_task import Setting
    from shared_router.deciding.guarantee import Claim
    from shared_router.deciding.guards import Allowed
    from shared_router.deciding.looks import Band
    from shared_router.deciding.rule import Rule
    from shared_router.deciding.settings import Dialling
    from shared_router.options import CallOptions, ConversationMode, Dial, SecondLook
    from shared_router.records import (
        AnswerSettings,
        Candidate,
        Move,
        Reason,
        RoutingQuery,
        TaskSource,
    )
    from shared_router.retrieval import RetrievalFacts


@dataclass(frozen=True)
class Score:
    """Ask the driver to score one text."""

    text: str = field(repr=False)
    task: str | None = None
    """The label to score it under; handed to the driver only where there is one."""
    retrieval: RetrievalFacts | None = None
    """What was retrieved for it; handed to the driver only where that is known."""
    narrow: bool = False
    """Whether the text is a message to be narrowed; handed to the driver only where it is."""

    def asked(self) -> tuple[Any, ...]:
        """Return what a scorer is called with: the text, and what else is known."""
        if self.narrow:
            return self.text, self.task, self.retrieval, True
        if self.retrieval is not None:
            return self.text, self.task, self.retrieval
        return (self.text,) if self.task is None else (self.text, self.task)


@dataclass(frozen=True)
class Scored:
    """What came of scoring a text; a driver may also send the scores alone."""

    scores: Sequence[float]
    task: str | None = None
    """The task that the text itself tells."""
    question: str | None = field(default=None, repr=False)
    """What was scored in place of the text, where it had to be narrowed."""
    truncated: bool = False
    """Whether what was scored is longer than the router reads."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the rules found; the engine makes a `RoutingDecision` of it."""

    index: int
    reason: Reason
    scores: tuple[float, ...] | None = None
    threshold: float | None = None
    error: str | None = None
    task: str | None = None
    task_source: TaskSource | None = None
    setting: Setting | None = None
    question: str | None = field(default=None, repr=False)
    """What the query was narrowed to."""
    truncated: bool = False
    """Whether what was scored is longer than the router reads."""
    with_looks: bool = False
    """Whether the line with second looks is in force."""
    looking: Looking | None = field(default=None, repr=False)
    """What looking at the answer needs, where it is looked at."""
    kept: bool = False
    """Whether the model is kept of an earlier turn, whatever the score says."""
    wanted: int | None = None
    """Position of the candidate that the score asks for, where another one is kept."""
    conversation: Move | None = None
    """What it does in its conversation."""
    switch_cost_usd: float | None = None
    """What a switch costs, or would cost."""


@dataclass(frozen=True, kw_only=True)
class LookRules:
    """The line with second looks, for one router over its candidates."""

    band: Band
    """Within which answers are looked at."""
    dialling: Dialling
    """Resolves dials along the line with looks."""
    pays: bool
    """Whether looks paid on the router's own training data."""
    needs_logprobs: bool = False
    """Whether its scorer of answers was made with log-probabilities."""
    settings: AnswerSettings | None = None
    """How the answers were made that it was calibrated on, where known."""

    def differs(self, request: RoutingRequest) -> str | None:
        """Say why a call's answer is none that was measured."""
        own, asked = self.settings, request.settings
        if own is None or asked is None or own.alike(asked):
            return None
        return OTHER_SETTINGS


MOST_SETTINGS = 1024
"""Dials whose setting is kept; past it, all are resolved anew."""


@dataclass(frozen=True)
class Policy:
    """The rules in their order, for one router over its candidates."""

    candidates: tuple[Candidate, ...]
    """As bound, the reference last."""
    rule: Rule
    """Turns scores into a choice."""
    dialling: Dialling
    """Resolves dials."""
    default: Asked
    """The dial of a call that brings none, and the confidence of one that says none."""
    looks: LookRules | None = None
    """The line with second looks; `None` where the router has no scorer of answers."""
    second_look: SecondLook = AUTO
    """Whether answers are looked at where a call does not say."""
    conversation: ConversationMode = AUTO
    """Which model goes on with a conversation where a call does not say."""
    costs_usd: tuple[float | None, ...] | None = None
    """Measured costs of a call, where prices are not known."""
    _settings: dict[Any, Setting] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Dials that were resolved; the same comes again call after call."""

    @property
    def reference(self) -> int:
        """Position of the reference."""
        return len(self.candidates) - 1

    def asked(self, options: CallOptions) -> Asked:
        """Return the dial in force, who wrote it and how sure it must be."""
        if options.dial is None and options.confidence is None:
            return self.default
        confidence = options.confidence or self.default.confidence
        if options.dial is None:
            return replace(self.default, confidence=confidence)
        return Asked(options.dial, True, confidence)

    def dial(self, request: RoutingRequest) -> Dial:
        """Return the dial in force."""
        return self.asked(request.options).dial

    def claim(self, request: RoutingRequest) -> Claim:
        """Say what the dial in force claims, where none was resolved for the call."""
        try:
            looks = self._looks(request, request.task)
            return self._setting(request, request.task, looks).claim
        except Exception:  # noqa: BLE001  (a router that is broken: the decision says so)
            return UNRESOLVED

    def check(self, options: CallOptions) -> None:
        """Refuse options that no call can have; see `deciding`.

        Raises:
            ConfigurationError: If the route names no candidate, or the dial cannot be resolved.
        """
        if options.second_look is True:
            self.check_looks(self.asked(options).dial)
        if options.route is not None:
            position_of(options.route, self.candidates)
        elif options.dial is not None or options.confidence is not None:
            self._resolved(options, options.task)

    def check_looks(self, dial: Dial) -> None:
        """Refuse looks that cannot be taken.

        Raises:
            ConfigurationError: If the router has no scorer of answers, or the dial needs a
                calibration of looks that it has not.
        """
        if self.looks is None:
            raise ConfigurationError(
                "second_look=True needs a router with a scorer of answers: fit it on outcomes with "
                "`response`, as `hybrid-llm collect` records them, and labels='gap'; or leave "
                "second_look at 'auto'."
            )
        if self.looks.dialling.curve is None and dial.name != "threshold":
            raise ConfigurationError(
                f"second_look=True with {dial.name} needs a calibration with answers: calibrate "
                "the router with outcomes that have `response`, or leave second_look at 'auto'."
            )

    def refuses(self) -> bool:
        """Tell whether the default dial is a limit that no line in force can promise."""
        if self.dialling.resolve(self.default).refused is False:
            return False
        looks = self.looks
        served = looks is not None and self.second_look is not False and looks.pays
        if looks is None or not served or looks.dialling.curve is None:
            return True
        return looks.dialling.resolve(self.default).refused

    def deciding(self, request: RoutingRequest) -> Generator[Score, Any, Verdict]:
        """Decide one call: forced > capability and context window > sticky > score.

        Raises:
            ConfigurationError: If the call's own options are wrong. Content never raises.
        """
        task = request.task
        try:
            verdict = yield from self._deciding(request, task)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
            verdict = self.failed(request, error)
        verdict = self._moved(verdict, request)
        if task is None:
            return verdict
        return replace(verdict, task=task, task_source="given")

    def failed(self, request: RoutingRequest, error: Exception) -> Verdict:
        """Send a call to the last candidate that can serve it, and say why."""
        try:
            index = allowed_candidates(request, self.candidates).indices[-1]
        except (AttributeError, TypeError):  # candidates that say of themselves what is no number
            index = self.reference
        return Verdict(index=index, reason="router_error", error=type(error).__name__)

    def _looks(self, request: RoutingRequest, task: str | None) -> LookRules | None:
        """Return the line with looks where it is in force.

        Left to the router, it is where looks pay and it keeps the limit as surely as the other.
        """
        looks, options = self.looks, request.options
        wanted = self.second_look if options.second_look is None else options.second_look
        if options.second_look is True:
            self.check_looks(self.dial(request))
        if looks is None or wanted is False:
            return None
        dial = self.dial(request)
        if looks.dialling.curve is None and dial.name != "threshold":
            return None
        if wanted is True:
            return looks
        if request.streams or not looks.pays:
            return None
        refused = self._setting(request, task, looks).refused
        return None if refused and not self._setting(request, task, None).refused else looks

    def _setting(
        self, request: RoutingRequest, task: str | None, looks: LookRules | None
    ) -> Setting:
        """Resolve the dial in force; where the call brought none, it is not at fault."""
        options = request.options
        why_void = self.staying.unmeasured(request) or self._unlike(request)
        if looks is not None and why_void is None:
            why_void = looks.differs(request)
        try:
            return self._resolved(options, task, why_void, looks)
        except ConfigurationError as error:
            if options.dial is not None or options.confidence is not None:
                raise
            raise ScoringError("The router cannot resolve its own dial.") from error

    def _unlike(self, request: RoutingRequest) -> str | None:
        if request.query is None:
            return None
        facts, task = request.query.retrieval, request.task
        return self.dialling.unlike(with_retrieval=facts is not None, with_task=bool(task))

    def _resolved(
        self,
        options: CallOptions,
        task: str | None,
        why_void: str | None = None,
        looks: LookRules | None = None,
    ) -> Setting:
        asked = self.asked(options)
        if options.confidence is not None:
            check_promisable(asked, self.dialling.void)
        key = asked, task, why_void, looks is None
        found = self._settings.get(key)
        if found is None:
            dialling = self.dialling if looks is None else looks.dialling
            found = dialling.resolve(asked, task, why_void)
            if len(self._settings) >= MOST_SETTINGS:
                self._settings.clear()
            self._settings[key] = found
        return found

    def _deciding(
        self, request: RoutingRequest, task: str | None
    ) -> Generator[Score, Any, Verdict]:
        if request.options.route is not None:
            index = position_of(request.options.route, self.candidates)
            return Verdict(index=index, reason="forced")
        dial = self.dial(request)
        looks = self._looks(request, task)
        setting = self._setting(request, task, looks)
        allowed = allowed_candidates(request, self.candidates)
        settled = self._settled(request, setting, allowed)
        if settled is not None:
            return replace(settled, with_looks=looks is not None)
        try:
            label = self.label_for(dial, setting, task)
            scored = self._checked((yield _score_of(request.query, label)))
        except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
            verdict = _verdict(allowed.indices[-1], "router_error", setting)
            return replace(verdict, error=type(error).__name__)
        if task is not None or scored.task is None:
            return self._by_score(scored, setting, allowed, looks, request)
        looks = self._looks(request, scored.task)
        setting = self._setting(request, scored.task, looks)
        verdict = self._by_score(scored, setting, allowed, looks, request)
        return replace(verdict, task=scored.task, task_source="predicted")

    def _settled(
        self, request: RoutingRequest, setting: Setting, allowed: Allowed
    ) -> Verdict | None:
        """Decide what needs no score."""
        if len(allowed.indices) == 1 and allowed.reason is not None:
            return _verdict(allowed.indices[0], allowed.reason, setting)
        sticky = sticky_position(request.sticky_to, allowed, self.candidates)
        if sticky is not None:
            return _verdict(sticky, "sticky", setting)
        kept = self.staying.kept(request, allowed)
        if kept is not None:
            return replace(_verdict(kept, "sticky", setting), kept=True)
        if request.query is None or not request.query.text.strip():
            index = self._without_query(request.without_query_to, allowed)
            return _verdict(index, "no_query", setting)
        if setting.refused and not self._tells(request.task):
            return _verdict(allowed.indices[-1], "no_promise", setting)
        return None

    def _tells(self, task: str | None) -> bool:
        """Tell whether the text itself will say the task, and with it what is promised."""
        tasks = self.dialling.tasks
        return task is None and tasks is not None and tasks.by == "predicted"

    def _without_query(self, name: str | None, allowed: Allowed) -> int:
        """Return where a call without a query goes: the reference, unless another was named."""
        if name is not None:
            named = position_of(name, self.candidates)
            if named in allowed.indices:
                return named
        return allowed.indices[-1]

    def label_for(self, dial: Dial, setting: Setting, task: str | None) -> str | None:
        """Choose the label to score under: that of the curve in force, which was scored so.

        A bare threshold belongs to no curve, so that the call's own label stands.
        """
        if self.dialling.tasks is not None and self.dialling.tasks.by == "predicted":
            return None
        return task if dial.name == "threshold" else setting.task

    def _checked(self, outcome: Any) -> Scored:
        found = outcome if isinstance(outcome, Scored) else Scored(outcome)
        row = tuple(np.asarray(found.scores, dtype=np.float64).ravel().tolist())
        if len(row) != self.reference or not all(map(math.isfinite, row)):
            raise ScoringError(
                f"A scorer returns {self.reference} finite numbers a query; got {len(row)}."
            )
        return replace(found, scores=row)

    def _by_score(
        self,
        scored: Scored,
        setting: Setting,
        allowed: Allowed,
        looks: LookRules | None,
        request: RoutingRequest,
    ) -> Verdict:
        found = self._for_the_turn(scored, setting, allowed, looks, request)
        by_score = found.reason in ("score", "second_look")
        stays = self.staying.dearer(request, found.index, allowed) if by_score else None
        if stays is None:
            return found
        kept = replace(found, index=stays, reason="sticky", looking=None)
        return replace(kept, kept=True, wanted=found.index)

    def _for_the_turn(
        self,
        scored: Scored,
        setting: Setting,
        allowed: Allowed,
        looks: LookRules | None,
        request: RoutingRequest,
    ) -> Verdict:
        plain = self._by_score_alone(scored, setting, allowed)
        if looks is None:
            return plain
        plan = looks.band.plan(scored.scores, setting.threshold, allowed.indices)
        if not plan.looks:
            return replace(plain, with_looks=True)
        return replace(
            plain,
            index=plan.index,
            reason="second_look",
            with_looks=True,
            looking=_looking(scored, setting.threshold, looks, request.query),
        )

    @cached_property
    def staying(self) -> Staying:
        """Which model goes on with a conversation."""
        whole = self.dialling.by_conversation
        return Staying(self.candidates, self.costs_usd, self.conversation, whole)

    def _moved(self, verdict: Verdict, request: RoutingRequest) -> Verdict:
        """Say what a verdict does in its conversation, and what a switch costs."""
        moved, cost_usd = self.staying.moved(request, verdict.index, verdict.wanted)
        return replace(verdict, conversation=moved, switch_cost_usd=cost_usd) if moved else verdict

    def _by_score_alone(self, scored: Scored, setting: Setting, allowed: Allowed) -> Verdict:
        scores = scored.scores
        masked = [s if i in allowed.indices else -math.inf for i, s in enumerate(scores)]
        index = self.rule.choose_one(masked, setting.threshold)
        reason: Reason = "no_promise" if setting.refused else "score"
        if index not in allowed.indices:
            index = max(allowed.indices, key=lambda i: scores[i])
            reason = allowed.reason or "capability"
        return replace(
            _verdict(index, reason, setting),
            scores=tuple(scores),
            question=scored.question,
            truncated=scored.truncated,
        )


def _score_of(query: RoutingQuery | None, label: str | None) -> Score:
    """Ask for the score of a call's query."""
    if query is None:
        return Score("", label)
    return Score(query.text, label, query.retrieval, narrow=query.ways is not None)


def _looking(
    scored: Scored, threshold: float, looks: LookRules, query: RoutingQuery | None
) -> Looking:
    text = "" if query is None else query.text
    return Looking(
        text=text if scored.question is None else scored.question,
        scores=tuple(scored.scores),
        threshold=threshold,
        band=looks.band,
        needs_logprobs=looks.needs_logprobs,
        retrieval=None if query is None else query.retrieval,
    )


def _verdict(index: int, reason: Reason, setting: Setting) -> Verdict:
    return Verdict(index=index, reason=reason, threshold=setting.threshold, setting=setting)
