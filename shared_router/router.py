"""Router: the trained, calibrated, immutable artifact."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from shared_router import artifact, measured
from shared_router.data.dataset import RoutingDataset, check_candidate_names
from shared_router.deciding.attempts import Policy, drive
from shared_router.deciding.curve import CalibrationCurve, resolve_dial
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.record import decision_record
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.errors import CandidateError, ConfigurationError, DataError
from shared_router.measuring.bootstrap import RESAMPLES
from shared_router.options import CallOptions, Dial, only_dial
from shared_router.records import Candidate, RoutingDecision, RoutingQuery
from shared_router.scoring.encoder import DEFAULT_MAX_TOKENS
from shared_router.scoring.finetuning import FineTuning
from shared_router.scoring.fitting import Reference, fit_scorer
from shared_router.scoring.serving import GraphScorer, Scorer

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.labels import LabelKind
    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.scoring.fitting import Progress

CHARACTERS_PER_TOKEN = 4
"""A rough rule, for scorers without a tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Router:
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
    costs_usd: tuple[float | None, ...] | None = None
    """Mean cost of one call per candidate in US dollars, where the data told."""
    curve: CalibrationCurve | None = None
    """The calibration; `None` before `calibrate`."""
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
        check_candidate_names(self.candidates)

    def __repr__(self) -> str:
        state = f"calibrated on {self.curve.n}" if self.curve else "not calibrated"
        names = ", ".join(self.candidates)
        return f"Router({self.name!r}, [{names}], labels={self.labels!r}, {state})"

    # -- making one -------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        data: RoutingDataset,
        candidates: Sequence[str],
        labels: LabelKind = "gap",
        encoder: str = "minilm",
        *,
        name: str | None = None,
        finetune: bool | FineTuning = False,
        int8: bool = True,
        reference: bool = True,
        seed: int = 0,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> Router:
        """Train a router on queries with measured outcomes.

        Args:
            data: The training queries; all of them are used, so pass `data.split("train")`.
            candidates: Model names, the reference (the large model) last.
            labels: `gap` predicts `E[q_j - q_ref]`; `det`, `prob` and `trans` are the paper's.
            encoder: `minilm`, a hub name or the path of a transformers encoder.
            name: The router's name; the candidates joined by default.
            finetune: Whether to fine-tune the encoder, or how. It costs minutes; interrupted and
                started again, it goes on from its last checkpoint.
            int8: Whether to serve in int8 where that ranks queries as float32 does.
            reference: Whether to keep train embeddings and gaps.
            seed: Seed of folds, landmarks and fine-tuning.
            cache: Whether to use the embedding cache on disk.
            progress: Told of long work: stage, done, total.

        Returns:
            An uncalibrated router.

        Raises:
            DataError: If the data set is empty or incomplete.
            CandidateError: If a candidate is unknown, alone or given twice.
            LabelError: If nothing can be learned from the labels.

        Source: Hybrid LLM (Ding et al., ICLR 2024), section 3.
        """
        if not data.records:
            raise DataError(f"{data.name}: empty; a router is fitted on at least one query.")
        complete = data.candidates(candidates)
        costs = complete.mean_costs_usd(candidates)
        savings_from_costs(
            costs, len(candidates), candidates
        )  # refuses a candidate dearer than the reference
        fitted = fit_scorer(
            complete,
            candidates,
            labels,
            encoder,
            finetuning=FineTuning() if finetune is True else finetune or None,
            int8=int8,
            reference=reference,
            seed=seed,
            cache=cache,
            progress=progress,
        )
        return cls(
            candidates=tuple(candidates),
            scorer=fitted.scorer,
            labels=labels,
            name=name or "-vs-".join(candidates),
            costs_usd=tuple(costs),
            reference=fitted.reference,
            fitted_ids=frozenset(complete.ids),
            facts={"training": fitted.facts},
        )

    def calibrate(
        self,
        data: RoutingDataset,
        *,
        default: Dial | None = None,
        progress: Progress | None = None,
    ) -> Router:
        """Measure quality and cost along the line of thresholds, on queries not fitted on.

        Args:
            data: Calibration queries with outcomes; all of them are used.
            default: The dial of a call that brings none; `max_quality_drop=0.01` where a
                relative drop has a meaning, else `cost_advantage=0.5`.
            progress: Told of long work.

        Returns:
            The calibrated router.

        Raises:
            DataError: If the data set is too small, or holds queries the router was fitted on.
            ScoringError: If the scorer gives something else than numbers.
        """
        curve, complete = measured.calibrate(self, data, progress)
        dial = default or measured.default_dial(curve)
        curve.resolve(dial)
        facts = {"data": complete.name, "n": curve.n, "splits": dict(complete.splits)}
        return dataclasses.replace(
            self,
            curve=curve,
            default_dial=dial,
            calibrated_ids=frozenset(complete.ids),
            facts=self.facts | {"calibration": facts},
        )

    # -- using one --------------------------------------------------------------------------

    @cached_property
    def rule(self) -> Rule:
        """The rule that turns scores and a threshold into choices."""
        savings = savings_from_costs(self.costs_usd, len(self.candidates), self.candidates)
        return Rule("gap" if self.labels == "gap" else "probability", savings)

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

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Score texts, each alone.

        Args:
            texts: The users' queries.

        Returns:
            float32 of shape (n, k - 1), one column per candidate but the reference; higher =
            less need of the reference.
        """
        if isinstance(texts, str):
            raise ConfigurationError("score takes a list of texts; wrap the one text in a list.")
        scores = np.asarray(self.scorer.score(texts), dtype=np.float32)
        return scores.reshape(len(texts), len(self.candidates) - 1)

    def exceeds(self, text: str) -> bool:
        """Tell whether a text is longer than the encoder reads."""
        if isinstance(self.scorer, GraphScorer):
            return self.scorer.tokens.exceeds(text)
        return len(text) > DEFAULT_MAX_TOKENS * CHARACTERS_PER_TOKEN

    def decide(self, query: str, **options: Any) -> RoutingDecision:
        """Decide one query, calling no model.

        Args:
            query: The user's query.
            **options: One dial, `route`, `task`.

        Returns:
            The decision.

        Raises:
            ConfigurationError: If an option is wrong.
        """
        started = time.perf_counter()
        policy = Policy(tuple(map(Candidate, self.candidates)), self.rule, self.curve, self.dial)
        request = RoutingRequest(query=RoutingQuery(text=query), options=CallOptions.parse(options))
        verdict = drive(policy.deciding(request), lambda text: self.score([text])[0])
        latency_ms = (time.perf_counter() - started) * 1e3
        return decision_record(verdict, request, policy, self, latency_ms)

    def threshold_of(self, **dial: float) -> float:
        """Resolve a dial to this router's threshold.

        Raises:
            DialError: If no dial, two dials, or one out of range is given.
            NotCalibratedError: If the dial needs a calibration and there is none.
        """
        return resolve_dial(only_dial(dial) or self.dial, self.curve)

    def evaluate(
        self,
        data: RoutingDataset,
        *,
        resamples: int = RESAMPLES,
        progress: Progress | None = None,
        **dial: float,
    ) -> RoutingReport:
        """Measure the router beside its baselines.

        Args:
            data: Queries with outcomes that it was not fitted on.
            resamples: Bootstrap resamples behind the intervals.
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
        return measured.evaluate(self, data, only_dial(dial), resamples, progress)

    # -- keeping one ------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the router to a folder, whole or not at all.

        Args:
            folder: A new or empty folder, or one that holds a router, which is replaced.

        Raises:
            ConfigurationError: If its scorer is no graph.
            ArtifactError: If the folder holds something else or cannot be written.
        """
        artifact.save(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], *, revision: str | None = None
    ) -> Router:
        """Read a router from a folder, or from the Hugging Face hub.

        Args:
            name_or_path: A folder, or a hub repository `owner/name`.
            revision: Branch, tag or commit on the hub.

        Raises:
            ArtifactError: If it is missing, corrupt, truncated, foreign or of a newer format.
        """
        return cls(**artifact.load(artifact.find(name_or_path, revision)))

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, commit_message: str = "Upload router"
    ) -> str:
        """Upload the router and its card to the Hugging Face hub.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private.
            commit_message: The commit's message.

        Returns:
            The address of the commit.
        """
        return artifact.push(self, repo_id, private=private, commit_message=commit_message)


def check_binding(router: Router, candidates: Sequence[Candidate]) -> None:
    """Check that as many models are bound as the router chooses between.

    Raises:
        CandidateError: If not.
    """
    if len(candidates) != len(router.candidates):
        raise CandidateError(
            f"Router {router.name!r} chooses between {len(router.candidates)} candidates "
            f"({', '.join(router.candidates)}); {len(candidates)} models are given. Bind one model "
            "per candidate, in that order."
        )


def as_router(router: Router | str | os.PathLike[str]) -> Router:
    """Take a router, or read one by folder or hub name."""
    return router if isinstance(router, Router) else Router.from_pretrained(cast("str", router))
