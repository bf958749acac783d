"""Router: the trained, calibrated, immutable artifact, and all that is done with it, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from shared_router.deciding.by_task import LEAST_PER_TASK
from shared_router.measuring.bootstrap import RESAMPLES
from shared_router.options import LOOK_SHARE, USUAL_CONFIDENCE, confidence_from, only_dial
from shared_router.router import files, variants
from shared_router.router.read import BUNDLED
from shared_router.router.state import RouterState
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import LabelKind
    from shared_router.deciding.by_task import ByTask
    from shared_router.measuring.escalation import EscalationReport
    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.measuring.transfer import TransferReport
    from shared_router.options import Confidence, Dial
    from shared_router.records import Candidate
    from shared_router.serving.memory import TrainMemory
    from shared_router.support.progress import Progress
    from shared_router.training.finetuning.settings import FineTuning


class Router(RouterState):
    """A trained router: scores queries, and decides by a dial in the user's units.

    Make one with `fit`, `from_pretrained`, or around any `Scorer`. A router never changes:
    `calibrate` returns a new one.
    """

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
        train_memory: bool = True,
        retrieval: bool = True,
        words: bool = True,
        look_share: float = LOOK_SHARE,
        seed: int = 0,
        cache: bool = True,
        progress: Progress | None = None,
        reference: bool | None = None,
    ) -> Self:
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
            train_memory: Whether to keep train embeddings and gaps, for neighbours and for
                comparison.
            retrieval: Whether the router sees facts of retrieval, where the data have them;
                `False` leaves them out.
            words: Whether a table of hashed words may be a part, where it helps. Who guesses a word
                can look up whether training queries may have held it; `False` keeps none.
            look_share: Greatest share of queries for which a cheaper candidate's answer is looked
                at before it is given, where the data have `response`s and the labels are gaps; 0
                for none. How wide the band is, is chosen on the training queries.
            seed: Seed of folds, landmarks and fine-tuning.
            cache: Whether to use the embedding cache on disk.
            progress: Told of long work: stage, done, total.
            reference: The older name of `train_memory`, taken as well.

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
        from shared_router.router.fit import fit

        return fit(
            cls,
            data,
            candidates,
            labels,
            encoder,
            name=name,
            costs_usd=costs_usd,
            finetune=finetune,
            int8=int8,
            train_memory=train_memory if reference is None else reference,
            retrieval=retrieval,
            words=words,
            look_share=look_share,
            seed=seed,
            cache=cache,
            progress=progress,
        )

    def calibrate(
        self,
        data: RoutingDataset,
        *,
        default: Dial | None = None,
        by_task: ByTask = "given",
        least_per_task: int = LEAST_PER_TASK,
        costs_usd: Mapping[str, float] | None = None,
        quality_bounds: tuple[float, float] | None = None,
        second_look: bool | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Measure quality and cost along the line of thresholds, on queries not fitted on.

        What can be promised is tested here, once. Calibrating this router's result again with
        queries that it has seen is a further look, which has a smaller share of the error.

        Args:
            data: Calibration queries with outcomes; all of them are used.
            default: The dial of a call that brings none; `max_quality_drop=0.05`, or 0.02 from
                1,000 queries on, where a relative drop has a meaning, else `cost_advantage=0.5`.
            by_task: Whether a dial holds within each task: `given` by the labels of the data and
                of each call, `predicted` by the task a text tells where the call gives none, or
                `off`.
            least_per_task: Fewest queries for which a task is calibrated by itself; calls of
                other tasks take the calibration of all tasks together, and say so.
            costs_usd: Mean cost of one call by candidate, in place of those of the training.
            quality_bounds: Least and greatest quality there can be; 0 and 1 where all lies within,
                and without bounds nothing can be promised.
            second_look: Which line serves, of a router that looks at answers: `True` the one with
                looks, `False` the one without. Where both may (`None`), each is tested at half of
                the error: streams, and calls with `second_look=False`, go by the one without.
            progress: Told of long work.

        Returns:
            The calibrated router.

        Raises:
            DataError: If the data set is too small, or holds queries the router was fitted on.
            CandidateError: If costs are wrong.
            ConfigurationError: If the bounds are none, or a quality lies outside of them.
            ScoringError: If the scorer gives something else than numbers.
        """
        from shared_router.router.calibrate import calibrate

        return calibrate(
            self,
            data,
            default=default,
            by_task=by_task,
            least_per_task=least_per_task,
            costs_usd=costs_usd,
            quality_bounds=quality_bounds,
            second_look=second_look,
            progress=progress,
        )

    # -- measuring one ----------------------------------------------------------------------

    def evaluate(
        self,
        data: RoutingDataset,
        *,
        resamples: int = RESAMPLES,
        skip_seen: bool = False,
        confidence: Confidence = USUAL_CONFIDENCE,
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
            confidence: How sure a limit must be; `estimate` measures its estimate.
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
        from shared_router.router.evaluate import evaluate

        sure = confidence_from(confidence)
        return evaluate(self, data, only_dial(dial), sure, resamples, progress, skip_seen)

    def evaluate_escalation(
        self,
        data: RoutingDataset,
        checks: Sequence[Any],
        *,
        resamples: int = RESAMPLES,
        skip_seen: bool = False,
        confidence: Confidence = USUAL_CONFIDENCE,
        **dial: float,
    ) -> EscalationReport:
        """Measure what checks on answers buy and cost, on recorded responses.

        Args:
            data: Queries with outcomes, and responses of all candidates but the reference.
            checks: `empty`, `refused`, `tool_text`, functions of a response's text, or `agreement`
                of its samples.
            resamples: Bootstrap resamples behind the intervals.
            skip_seen: Whether to leave out queries it was fitted on.
            confidence: How sure a limit must be.
            **dial: One dial; without, every question is sent to the cheapest candidate first.

        Raises:
            DataError: If responses are missing.
            ConfigurationError: If a check or a dial is wrong.
        """
        from shared_router.router.evaluate import escalation

        sure, only = confidence_from(confidence), only_dial(dial)
        return escalation(self, data, checks, only, sure, resamples, skip_seen)

    def transfer_report(
        self,
        data: RoutingDataset,
        candidates: Sequence[str] | None = None,
        *,
        resamples: int = RESAMPLES,
        progress: Progress | None = None,
        **dial: float,
    ) -> TransferReport:
        """Tell whether this router can serve other models: reuse, recalibrate or retrain.

        Args:
            data: Queries with outcomes of the new models, a few hundred or more; where they have
                outcomes of the router's own models too, the quality gaps are correlated.
            candidates: The new models, by position, the reference last; all of the data's where
                `None`.
            resamples: Bootstrap resamples behind the intervals.
            progress: Told of long work.
            **dial: One dial; the router's own where none is given.

        Returns:
            The report, with its rule.

        Raises:
            CandidateError: If the new models are more or fewer than the router's.
            DataError: If there are too few queries that the router was not fitted on.
            NotCalibratedError: If the dial needs a calibration and there is none.

        Source: Hybrid LLM (Ding et al., ICLR 2024), section 4.5.
        """
        from shared_router.router.transfer import report

        asked = only_dial(dial) or self.dial
        return report(self, data, candidates, asked, resamples, progress)

    # -- making others of one ---------------------------------------------------------------

    def with_costs(self, costs_usd: Mapping[str, float]) -> Self:
        """Weigh the candidates by other costs; a calibration is walked anew, nothing is scored.

        Args:
            costs_usd: Mean cost of one call in US dollars, one for each candidate.

        Raises:
            CandidateError: If one is missing, wrong, or greater than the reference's.
            NotCalibratedError: If the calibration is of an older version, which kept no scores.
        """
        return variants.with_costs(self, costs_usd)

    def for_candidates(self, candidates: Sequence[str], *, name: str | None = None) -> Self:
        """Take the same scores for other models; calibrate the result with their outcomes.

        `transfer_report` tells whether that is worth it.

        Args:
            candidates: As many models as the router's own, by position, the reference last.
            name: The new router's name; the candidates joined by default.

        Returns:
            An uncalibrated router that knows no costs.

        Raises:
            CandidateError: If there are more or fewer, or one stands twice.
        """
        return variants.for_candidates(self, candidates, name)

    def add_candidate(
        self,
        name: str,
        data: RoutingDataset,
        *,
        before: str | None = None,
        cost_usd: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Add one model, from its outcomes on a few hundred queries.

        A new column of scores is fitted on the frozen embeddings; all others stay as they are.

        Args:
            name: The new model.
            data: Queries with outcomes of it and of the reference; all of them are used.
            before: The candidate it stands before; the reference where `None`. The order counts
                where no costs are known.
            cost_usd: Mean cost of one of its calls; as the data measured it where `None`.
            seed: Seed of folds and landmarks.
            progress: Told of long work.

        Returns:
            The uncalibrated router of one candidate more.

        Raises:
            ConfigurationError: If the scorer is no graph.
            CandidateError: If the name is taken, `before` is none of the candidates, the model has
                no outcomes, or it is dearer than the reference.
            DataError: If no query has outcomes of both.
            LabelError: If nothing can be learned from the outcomes.
            MissingExtraError: If scipy or onnx is not installed.
        """
        return variants.add_candidate(
            self, name, data, before=before, cost_usd=cost_usd, seed=seed, progress=progress
        )

    # -- keeping one ------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the router to a folder, whole or not at all.

        Args:
            folder: A new or empty folder, or one that holds a router, which is replaced: whoever
                reads it meanwhile sees the old one or the new one.

        Raises:
            ConfigurationError: If its scorer is no graph.
            ArtifactError: If the folder holds something else or cannot be written.
        """
        from shared_router.router.write import save

        save(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], *, revision: str | None = None
    ) -> Self:
        """Read a router from a folder, or from the Hugging Face hub.

        Args:
            name_or_path: A folder, a hub repository `owner/name`, or `bundled`.
            revision: Branch, tag or commit on the hub.

        Raises:
            ArtifactError: If it is missing, corrupt, truncated, foreign or of a newer format, or
                breaks a rule, such as a calibration that is not the one its queries give.
        """
        return files.load(cls, files.find(name_or_path, revision))

    @classmethod
    def bundled(cls) -> Self:
        """Read the router that ships with this package: small tier against frontier.

        It needs no network. Its card, `README.md` in its folder, tells what it was trained on,
        how it ranks questions of other sources, and what it must not be used for. Its dials are
        estimates on other models: fit one of your own as soon as you have outcomes.
        """
        return cls.from_pretrained(BUNDLED)

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
        from shared_router.router.write import push

        return push(self, repo_id, private=private, commit_message=commit_message)

    # -- older names ------------------------------------------------------------------------

    @property
    def reference(self) -> TrainMemory | None:
        """The older name of `train_memory`."""
        warn("Router.reference is deprecated: use Router.train_memory.", DeprecationWarning)
        return self.train_memory
