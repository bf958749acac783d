"""What a router is: frozen data, and what follows from it alone, scores, the rule, decisions."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.asking.questions import narrowed
from shared_router.data.labels import LABEL_KINDS
from shared_router.deciding.by_task import check_calibration
from shared_router.deciding.checks import check_costs
from shared_router.deciding.curve import resolve_dial
from shared_router.deciding.decision import decision_record
from shared_router.deciding.drivers import drive
from shared_router.deciding.guarantee import OTHER_ARITHMETIC, OTHER_CANDIDATES
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.policy import LookRules, Policy, Scored
from shared_router.deciding.pooling import check_out_of_fold, pooled_curve
from shared_router.deciding.rule import rule_of
from shared_router.deciding.settings import Dialling
from shared_router.errors import ConfigurationError, ScoringError
from shared_router.options import (
    AUTO,
    USUAL_CONFIDENCE,
    Asked,
    CallOptions,
    Dial,
    confidence_from,
    only_dial,
)
from shared_router.records import Candidate, RoutingDecision, RoutingQuery
from shared_router.serving.answers import Answered
from shared_router.serving.probes import same_answers, same_arithmetic
from shared_router.serving.scorer import GraphScorer, Scorer, telling
from shared_router.serving.tokens import DEFAULT_MAX_TOKENS
from shared_router.support.names import (
    LONGEST_ROUTER_NAME,
    check_candidate_names,
    check_name,
    shown,
)
from shared_router.support.processes import cached_property, native_work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.data.labels import LabelKind
    from shared_router.deciding.by_task import Setting, TaskCurves
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.looks import LookAt
    from shared_router.deciding.pooling import OutOfFold
    from shared_router.deciding.rule import Rule
    from shared_router.deciding.settings import Promises
    from shared_router.options import Confidence, ConversationMode
    from shared_router.options import SecondLook as SecondLookOption
    from shared_router.retrieval import RetrievalFacts
    from shared_router.serving.memory import TrainMemory
    from shared_router.serving.probes import Probes
    from shared_router.serving.second_look import SecondLook

CHARACTERS_PER_TOKEN = 4
"""A rough rule, for scorers without a tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RouterState:
    """A router as data: it scores and decides, and never changes.

    What makes another one of it is a function beside this file; `Router` names them all.

    Raises:
        CandidateError: If the candidates are too few, no names, or one is dearer than the
            reference.
        ConfigurationError: If something else breaks a rule.
    """

    candidates: tuple[str, ...]
    """Names, the reference (the large model) last."""
    scorer: Scorer
    """Maps texts to scores, higher = less need of the reference."""
    labels: LabelKind = "gap"
    """What the scores mean: an expected gap, or a probability."""
    name: str = "router"
    """Stands in every decision."""
    tiers: bool = False
    """Whether the candidates are tiers of models: then any model may stand for each."""
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What else the models are called that were measured, by candidate: they bind to it."""
    costs_usd: tuple[float | None, ...] | None = None
    """Mean cost of one call per candidate in US dollars, where the data told."""
    curve: CalibrationCurve | None = None
    """The calibration; `None` before `calibrate`."""
    task_curves: TaskCurves | None = None
    """The calibration within each task that has one."""
    promises: Promises | None = None
    """What the calibration can promise; `None` where nothing was tested, as with several models."""
    out_of_fold: OutOfFold | None = field(default=None, repr=False)
    """The training queries as heads scored them that had not seen them."""
    probes: Probes | None = field(default=None, repr=False)
    """Texts with their scores, which tell another machine's arithmetic apart."""
    second_look: SecondLook | None = None
    """Its second looks at answers; `None` where it was fitted without recorded answers."""
    default_dial: Dial | None = None
    """The dial of a call that brings none; see `dial`."""
    train_memory: TrainMemory | None = field(default=None, repr=False)
    """Train embeddings and gaps, for neighbours and comparison."""
    fitted_ids: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids of the queries it was fitted on."""
    calibrated_ids: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids of the queries it was calibrated on."""
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    """Measured facts of training and calibration, for the card."""

    def __post_init__(self) -> None:
        check_candidate_names(self.candidates)
        check_name(self.name, "A router", ConfigurationError, LONGEST_ROUTER_NAME)
        self._check_kinds()
        check_costs(self.costs_usd, self.candidates)
        check_calibration(self.curve, self.task_curves, len(self.candidates))
        if self.default_dial is not None:
            resolve_dial(self.default_dial, self.curve)
        check_out_of_fold(self.out_of_fold, len(self.candidates))

    def _check_kinds(self) -> None:
        if self.labels not in LABEL_KINDS:
            raise ConfigurationError(
                f"labels is one of {', '.join(LABEL_KINDS)}; got {shown(self.labels)}."
            )
        if not isinstance(self.tiers, bool):
            raise ConfigurationError(f"tiers is True or False; got {shown(self.tiers)}.")
        for alias in (each for known in self.aliases.values() for each in known):
            check_name(alias, "An alias")
        if not isinstance(self.facts, dict):
            raise ConfigurationError(f"facts is a dict; got {shown(self.facts)}.")

    def __repr__(self) -> str:
        state = f"calibrated on {self.curve.n}" if self.curve else "not calibrated"
        names = ", ".join(self.candidates)
        return f"Router({self.name!r}, [{names}], labels={self.labels!r}, {state})"

    @cached_property
    def rule(self) -> Rule:
        """The rule that turns scores and a threshold into choices."""
        return rule_of(self.labels, self.costs_usd, self.candidates)

    @cached_property
    def estimate(self) -> CalibrationCurve | None:
        """The curve that estimates go by: over the calibration, and the training out of fold."""
        return self.curve and pooled_curve(self.rule, self.curve, self.out_of_fold)

    @cached_property
    def void(self) -> str | None:
        """Why nothing that was measured holds for its own candidates; `None` where it does."""
        if self.tiers:
            return OTHER_CANDIDATES
        return None if same_arithmetic(self.probes, self.scorer) else OTHER_ARITHMETIC

    def dialling(self, void: str | None = None) -> Dialling:
        """Return what resolves its dials.

        Args:
            void: Why nothing that was measured holds for the models bound to it.
        """
        return Dialling(
            curve=self.estimate,
            tasks=self.task_curves,
            promises=self.promises,
            models=len(self.candidates),
            void=void or self.void,
        )

    @cached_property
    def looks_estimate(self) -> CalibrationCurve | None:
        """The curve that estimates of the line with looks go by; see `estimate`."""
        looks = self.second_look
        if looks is None or looks.line is None:
            return None
        return pooled_curve(self.rule, looks.line.curve, looks.out_of_fold(self.rule))

    def look_rules(self, void: str | None = None) -> LookRules | None:
        """Return the line with looks; `None` where it has none.

        Args:
            void: Why nothing that was measured holds for the models bound to it.
        """
        looks = self.second_look
        if looks is None or looks.width <= 0:
            return None
        line = looks.line
        dialling = Dialling(
            curve=self.looks_estimate,
            tasks=line.task_curves if line else None,
            promises=line.promises if line else None,
            models=len(self.candidates),
            void=void or self.void or self._looks_void,
        )
        return LookRules(
            band=looks.band(self.rule),
            dialling=dialling,
            pays=looks.pays,
            needs_logprobs=looks.scorer.needs_logprobs,
            settings=looks.settings,
        )

    @cached_property
    def _looks_void(self) -> str | None:
        looks = self.second_look
        if looks is None or same_answers(looks.probes, looks.scorer):
            return None
        return OTHER_ARITHMETIC

    def setting_of(
        self,
        dial: Dial,
        confidence: Confidence = USUAL_CONFIDENCE,
        task: str | None = None,
        *,
        written: bool = True,
    ) -> Setting:
        """Resolve a dial: its threshold, and what is claimed at it.

        Args:
            dial: The dial.
            confidence: How sure its limit must be.
            task: The task to resolve it within, where the router is calibrated for it.
            written: Whether it is a limit that the user wrote, or the router's stored default.

        Raises:
            NotCalibratedError: If the dial needs a calibration and there is none.
        """
        return self.dialling().resolve(Asked(dial, written, confidence), task)

    @property
    def dial(self) -> Dial:
        """The dial of a call that brings none.

        The stored default; before calibration the threshold of best expected quality: 0 for
        `gap`, 0.5 for the paper's labels.
        """
        return self.default_dial or Dial("threshold", 0.0 if self.labels == "gap" else 0.5)

    @cached_property
    def version(self) -> str:
        """The start of the SHA-256 of its graph; `custom` for a scorer that is no graph."""
        if isinstance(self.scorer, GraphScorer):
            return self.scorer.session.sha256[:12]
        return "custom"

    @property
    def sees_retrieval(self) -> bool:
        """Whether facts of retrieval move its scores."""
        return bool(getattr(self.scorer, "takes_retrieval", False))

    def score(
        self,
        texts: Sequence[str],
        tasks: Sequence[str | None] | None = None,
        retrieval: Sequence[RetrievalFacts | None] | None = None,
    ) -> NDArray[np.float32]:
        """Score texts, each alone.

        Args:
            texts: The users' queries.
            tasks: Their task labels, where known; one the scorer does not know changes nothing.
            retrieval: What was retrieved for each, where known; a router that sees no such facts
                passes them over.

        Returns:
            float32 of shape (n, k - 1), one column per candidate but the reference; higher =
            less need of the reference.

        Raises:
            ScoringError: If the scorer gives something else.
        """
        if isinstance(texts, str):
            raise ConfigurationError("score takes a list of texts; wrap the one text in a list.")
        told: dict[str, Any] = {}
        if tasks is not None and getattr(self.scorer, "takes_tasks", False):
            told["tasks"] = tasks
        if retrieval is not None and self.sees_retrieval:
            told["retrieval"] = retrieval
        return self._as_scores(self.scorer.score(texts, **told), len(texts))

    def _as_scores(self, given: Any, n: int) -> NDArray[np.float32]:
        """Check what a scorer gives; of two candidates it may leave out the one column."""
        found, wanted = np.asarray(given), (n, len(self.candidates) - 1)
        fits = found.shape == wanted or (wanted[1] == 1 and found.shape == wanted[:1])
        if n and not (fits and found.dtype.kind in "fiu"):
            raise ScoringError(
                f"A scorer returns numbers of shape (n, k - 1), here {wanted}; got {found.dtype} "
                f"of shape {found.shape}."
            )
        with np.errstate(over="ignore"):  # one that is infinite is refused where it decides
            return found.astype(np.float32).reshape(wanted)

    def scored(
        self,
        text: str,
        task: str | None = None,
        retrieval: RetrievalFacts | None = None,
        narrow: bool = False,
    ) -> Scored:
        """Score one text for a decision.

        Args:
            text: The user's query.
            task: Its label, where one is given.
            retrieval: What was retrieved for it, where known.
            narrow: Whether it is a whole message: one that is longer than the encoder reads is
                narrowed to its final question paragraph.

        Returns:
            The scores, with the task its text tells where the calibration goes by that.

        Raises:
            PanicError: If native code panics, in a scorer of your own too.
        """
        with native_work():
            question = narrowed(text, self.exceeds) if narrow else None
            read = text if question is None else question
            truncated = self.exceeds(read) if question is not None or not narrow else False
            found = self._scored(read, task, retrieval)
        return dataclasses.replace(found, question=question, truncated=truncated)

    def look(self, asked: LookAt) -> float:
        """Score one answer, for a decision about it.

        Args:
            asked: The answer, and whose it is.

        Returns:
            The score, in the units of `score`.

        Raises:
            ScoringError: If the scorer gives something else than a finite number.
            ConfigurationError: If the router looks at no answers.
        """
        if self.second_look is None:
            raise ConfigurationError(f"Router {self.name!r} looks at no answers.")
        given = Answered(asked.query, asked.answer, asked.logprobs, asked.retrieval)
        found = self._as_scores(self.second_look.scorer.score([given]), 1)[0, asked.index]
        if not np.isfinite(found):
            raise ScoringError(f"A scorer of answers gives finite numbers; got {found}.")
        return float(found)

    def _scored(self, text: str, task: str | None, retrieval: RetrievalFacts | None) -> Scored:
        facts = None if retrieval is None else [retrieval]
        if self.task_curves is None or self.task_curves.by != "predicted":
            labels = None if task is None else [task]
            return Scored(self.score([text], labels, facts)[0])
        scorer = telling(self.scorer, self.name)
        scores, (told,) = scorer.score_and_tell([text], None, facts)
        return Scored(scores[0], told)

    def exceeds(self, text: str) -> bool:
        """Tell whether a text is longer than the encoder reads."""
        if isinstance(self.scorer, GraphScorer):
            try:
                return self.scorer.tokens.exceeds(text)
            except Exception:  # noqa: BLE001  (a broken tokenizer: scoring fails and is recorded)
                return False
        return len(text) > DEFAULT_MAX_TOKENS * CHARACTERS_PER_TOKEN

    def decide(
        self, query: str, *, retrieval: RetrievalFacts | None = None, **options: Any
    ) -> RoutingDecision:
        """Decide one query, calling no model.

        Args:
            query: The user's query.
            retrieval: What was retrieved for it, where known.
            **options: One dial, `confidence`, `route`, `task`, `second_look`.

        Returns:
            The decision.

        Raises:
            ConfigurationError: If an option is wrong.
            TypeError: If `retrieval` is something else.
        """
        started = time.perf_counter()
        policy = self.policy(self.named_candidates(), Asked(self.dial, written=False))
        asked = RoutingQuery(text=query, retrieval=retrieval)
        request = RoutingRequest(query=asked, options=CallOptions.parse(options))
        verdict = drive(policy.deciding(request), self.scored)
        latency_ms = (time.perf_counter() - started) * 1e3
        return decision_record(verdict, request, policy, self, latency_ms)

    def named_candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates without models, by all names that are known of them."""
        known = self.aliases
        return tuple(Candidate(name, aliases=known.get(name, ())) for name in self.candidates)

    def policy(
        self,
        candidates: tuple[Candidate, ...],
        asked: Asked,
        void: str | None = None,
        second_look: SecondLookOption = AUTO,
        conversation: ConversationMode = AUTO,
    ) -> Policy:
        """Make the rules of deciding over bound candidates."""
        looks, dialling = self.look_rules(void), self.dialling(void)
        return Policy(
            candidates,
            self.rule,
            dialling,
            asked,
            looks,
            second_look,
            conversation,
            self.costs_usd,
        )

    def threshold_of(
        self,
        task: str | None = None,
        *,
        confidence: Confidence = USUAL_CONFIDENCE,
        **dial: float,
    ) -> float:
        """Resolve a dial to this router's threshold, within a task where it is calibrated for it.

        Args:
            task: The task.
            confidence: How sure a limit must be; `estimate` for its estimate.
            **dial: One dial; the stored default where none is given.

        Returns:
            The threshold; infinite where a limit cannot be promised.

        Raises:
            DialError: If no dial, two dials, or one out of range is given.
            NotCalibratedError: If the dial needs a calibration and there is none.
        """
        given = only_dial(dial)
        asked = Asked(given or self.dial, given is not None, confidence_from(confidence))
        return self.dialling().resolve(asked, task).threshold
