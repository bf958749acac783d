"""Router: the trained, calibrated, immutable artifact."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router import measured
from shared_router.by_task import predicted_tasks
from shared_router.changing import Changing
from shared_router.checks import check_router
from shared_router.data.costs import call_costs, names_of
from shared_router.deciding.attempts import Policy, Scored, drive
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.record import decision_record
from shared_router.deciding.rule import rule_of, savings_from_costs
from shared_router.deciding.tasks import LEAST_PER_TASK, resolve_setting
from shared_router.errors import ConfigurationError, DataError, ScoringError
from shared_router.keeping import Keeping
from shared_router.measuring.bootstrap import RESAMPLES
from shared_router.naming import joined
from shared_router.options import CallOptions, Dial, only_dial
from shared_router.processes import cached_property, native_work
from shared_router.questions import narrowed
from shared_router.records import Candidate, RoutingDecision, RoutingQuery, joined_names
from shared_router.scoring.encoder import DEFAULT_MAX_TOKENS
from shared_router.scoring.finetuning import FineTuning
from shared_router.scoring.fitting import Reference, fit_scorer
from shared_router.scoring.needs import check_training
from shared_router.scoring.serving import GraphScorer, Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import LabelKind
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.rule import Rule
    from shared_router.deciding.tasks import ByTask, TaskCurves
    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.retrieval import RetrievalFacts
    from shared_router.scoring.fitting import Progress

CHARACTERS_PER_TOKEN = 4
"""A rough rule, for scorers without a tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Router(Changing, Keeping):
    """A trained router: scores queries, and decides by a dial in the user's units.

    Make one with `fit`, `from_pretrained`, or around any `Scorer`. A router never changes:
    `calibrate` returns a new one.
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
    default_dial: Dial | None = None
    """The dial of a call that brings none; see `dial`."""
    reference: Reference | None = field(default=None, repr=False)
    """Train embeddings and gaps, for neighbours and comparison."""
    fitted_ids: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids of the queries it was fitted on."""
    calibrated_ids: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids of the queries it was calibrated on."""
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    """Measured facts of training and calibration, for the card."""

    def __post_init__(self) -> None:
        check_router(self)

    def __repr__(self) -> str:
        state = f"calibrated on {self.curve.n}" if self.curve else "not calibrated"
        names = ", ".join(self.candidates)
        return f"Router({self.name!r}, [{names}], labels={self.labels!r}, {state})"

    # -- making one -------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        data: RoutingDataset,
        candidates: Sequence[str | Candidate],
        labels: LabelKind = "gap",
        encoder: str = "minilm",
        *,
        name: str | None = None,
        costs_usd: Mapping[str, float] | None = None,
        finetune: bool | FineTuning = False,
        int8: bool = True,
        reference: bool = True,
        retrieval: bool = True,
        words: bool = True,
        seed: int = 0,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> Router:
        """Train a router on queries with measured outcomes.

        Args:
            data: The training queries; all of them are used, so pass `data.split("train")`.
            candidates: Model names, the reference (the large model) last; or `Candidate` with
                prices, which count where the data have no costs.
            labels: `gap` predicts `E[q_j - q_ref]`; `det`, `prob` and `trans` are the paper's.
            encoder: `minilm`, a hub name or the path of a transformers encoder.
            name: The router's name; the candidates joined by default.
            costs_usd: Mean cost of one call by candidate, before what the data measured.
            finetune: Whether to fine-tune the encoder, or how. It costs minutes; interrupted and
                started again, it goes on from its last checkpoint.
            int8: Whether to serve in int8 where that ranks queries as float32 does.
            reference: Whether to keep train embeddings and gaps.
            retrieval: Whether the router sees facts of retrieval, where the data have them;
                `False` leaves them out.
            words: Whether a table of hashed words may be a part, where it helps. Who guesses a word
                can look up whether training queries may have held it; `False` keeps none.
            seed: Seed of folds, landmarks and fine-tuning.
            cache: Whether to use the embedding cache on disk.
            progress: Told of long work: stage, done, total.

        Returns:
            An uncalibrated router.

        Raises:
            DataError: If the data set is empty or incomplete, or some queries have facts of
                retrieval and others have not.
            CandidateError: If a candidate is unknown, alone, given twice or dearer than the
                reference, or if costs are wrong or missing for some.
            LabelError: If nothing can be learned from the labels.
            MissingExtraError: If what training needs is not installed; it names all of it.

        Source: Hybrid LLM (Ding et al., ICLR 2024), section 3.
        """
        if not data.records:
            raise DataError(f"{data.name}: empty; a router is fitted on at least one query.")
        names = names_of(candidates)
        complete = data.candidates(names)
        costs = call_costs(candidates, complete, costs_usd)
        savings_from_costs(costs.usd, len(names), names)  # refuses one dearer than the reference
        check_training(encoder, finetuning=bool(finetune))  # before minutes of work, not after
        fitted = fit_scorer(
            complete,
            names,
            labels,
            encoder,
            finetuning=FineTuning() if finetune is True else finetune or None,
            int8=int8,
            reference=reference,
            retrieval=retrieval,
            words=words,
            seed=seed,
            cache=cache,
            progress=progress,
        )
        return cls(
            candidates=tuple(names),
            scorer=fitted.scorer,
            labels=labels,
            name=name or joined_names(names),
            aliases=joined({}, complete.aliases(names)),
            costs_usd=costs.usd,
            reference=fitted.reference,
            fitted_ids=frozenset(complete.ids),
            facts={"training": fitted.facts | {"costs": costs.source}},
        )

    def calibrate(
        self,
        data: RoutingDataset,
        *,
        default: Dial | None = None,
        by_task: ByTask = "given",
        least_per_task: int = LEAST_PER_TASK,
        costs_usd: Mapping[str, float] | None = None,
        progress: Progress | None = None,
    ) -> Router:
        """Measure quality and cost along the line of thresholds, on queries not fitted on.

        Args:
            data: Calibration queries with outcomes; all of them are used.
            default: The dial of a call that brings none; `max_quality_drop=0.01` where a
                relative drop has a meaning, else `cost_advantage=0.5`.
            by_task: Whether a dial holds within each task: `given` by the labels of the data and
                of each call, `predicted` by the task a text tells where the call gives none, or
                `off`.
            least_per_task: Fewest queries for which a task is calibrated by itself; calls of
                other tasks take the calibration of all tasks together, and say so.
            costs_usd: Mean cost of one call by candidate, in place of those of the training.
            progress: Told of long work.

        Returns:
            The calibrated router.

        Raises:
            DataError: If the data set is too small, or holds queries the router was fitted on.
            CandidateError: If costs are wrong.
            ScoringError: If the scorer gives something else than numbers.
        """
        router = measured.with_costs_of(self, data, costs_usd)
        found = measured.calibrate(router, data, by_task, least_per_task, progress)
        dial = default or measured.default_dial(found.curve)
        found.curve.resolve(dial)
        return dataclasses.replace(
            router,
            curve=found.curve,
            task_curves=found.tasks,
            default_dial=dial,
            aliases=joined(self.aliases, found.data.aliases(self.candidates)),
            calibrated_ids=frozenset(found.data.ids),
            facts=self.facts | {"calibration": measured.calibration_facts(found)},
        )

    # -- using one --------------------------------------------------------------------------

    @cached_property
    def rule(self) -> Rule:
        """The rule that turns scores and a threshold into choices."""
        return rule_of(self.labels, self.costs_usd, self.candidates)

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
        found = np.asarray(self.scorer.score(texts, **told))
        wanted = (len(texts), len(self.candidates) - 1)
        fits = found.shape == wanted or (wanted[1] == 1 and found.shape == wanted[:1])
        if texts and not (fits and found.dtype.kind in "fiu"):
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

    def _scored(self, text: str, task: str | None, retrieval: RetrievalFacts | None) -> Scored:
        facts = None if retrieval is None else [retrieval]
        if self.task_curves is None or self.task_curves.by != "predicted":
            labels = None if task is None else [task]
            return Scored(self.score([text], labels, facts)[0])
        scores, (told,) = predicted_tasks(self, [text], None, facts)
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
            **options: One dial, `route`, `task`.

        Returns:
            The decision.

        Raises:
            ConfigurationError: If an option is wrong.
            TypeError: If `retrieval` is something else.
        """
        started = time.perf_counter()
        policy = self.policy(self.named_candidates(), self.dial)
        asked = RoutingQuery(text=query, retrieval=retrieval)
        request = RoutingRequest(query=asked, options=CallOptions.parse(options))
        verdict = drive(policy.deciding(request), self.scored)
        latency_ms = (time.perf_counter() - started) * 1e3
        return decision_record(verdict, request, policy, self, latency_ms)

    def named_candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates without models, by all names that are known of them."""
        known = self.aliases
        return tuple(Candidate(name, aliases=known.get(name, ())) for name in self.candidates)

    def policy(self, candidates: tuple[Candidate, ...], dial: Dial) -> Policy:
        """Make the rules of deciding over bound candidates."""
        return Policy(candidates, self.rule, self.curve, dial, self.task_curves)

    def threshold_of(self, task: str | None = None, **dial: float) -> float:
        """Resolve a dial to this router's threshold, within a task where it is calibrated for it.

        Raises:
            DialError: If no dial, two dials, or one out of range is given.
            NotCalibratedError: If the dial needs a calibration and there is none.
        """
        asked = only_dial(dial) or self.dial
        return resolve_setting(asked, self.curve, self.task_curves, task).threshold

    def evaluate(
        self,
        data: RoutingDataset,
        *,
        resamples: int = RESAMPLES,
        skip_seen: bool = False,
        progress: Progress | None = None,
        **dial: float,
    ) -> RoutingReport:
        """Measure the router beside its baselines.

        Args:
            data: Queries with outcomes that it was not fitted on.
            resamples: Bootstrap resamples behind the intervals.
            skip_seen: Whether to leave out queries it was fitted on, and those it was calibrated
                on where others remain: then a dial is measured as it was calibrated. The report
                says how many.
            progress: Told of long work.
            **dial: One dial, to measure at it.

        Returns:
            The report. Where a dial is given and these queries served the calibration, the
            figures at it come from calibrating on one half and measuring on the other.

        Raises:
            DataError: If the data set is empty, or holds queries the router was fitted on.
            DialError: If two dials are given, or one is unknown or out of range.
            NotCalibratedError: If the dial needs a calibration and there is none.
            ScoringError: If the scorer gives something else than numbers.
        """
        return measured.evaluate(self, data, only_dial(dial), resamples, progress, skip_seen)
