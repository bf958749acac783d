"""Frozen records that cross module borders; units are in the names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from shared_router.errors import CandidateError
from shared_router.retrieval import RetrievalFacts, RetrievalSource
from shared_router.support.names import check_name, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUTING_KEY = "hybrid_routing"
"""The one name of a decision in every carrier: metadata key, event and tag prefix."""

QuerySource = Literal[
    "explicit",
    "prompt_variable",
    "extractor",
    "span",
    "last_user_message",
    "conversation",
    "guessed",
    "none",
]
"""Where the routed text came from, surest first."""

Reason = Literal[
    "score",
    "forced",
    "capability",
    "context_window",
    "cap",
    "sticky",
    "drift",
    "no_promise",
    "no_query",
    "router_error",
    "fallback",
    "second_look",
]
"""Which rule decided."""

FailureKind = Literal[
    "rate_limit",
    "overloaded",
    "server_error",
    "timeout",
    "connection",
    "context_overflow",
    "authentication",
    "unknown_model",
    "unreadable",
    "tools_refused",
    "schema",
    "cancelled",
    "bad_request",
    "configuration",
    "unknown",
]
"""What kind of error an attempt ended with."""

Why = Literal["chosen", "fallback", "resting", "escalated", "no_time", "no_logprobs"]
"""Why a candidate was asked: the router chose it, another one failed, the chosen one rests after
failures, the answer of a cheaper one was rejected, or could not be looked at: there was no time, or
it would have come without the log-probabilities that its scorer needs, as those before it."""

TaskSource = Literal["given", "predicted"]
"""Who named the task: the call, or the router by the text."""

Guarantee = Literal["promised", "estimated", "none", "void"]
"""What holds of a decision's quality: a limit that was tested, an estimate of it, nothing, or
nothing because the decision is not what was measured."""
GUARANTEES: tuple[Guarantee, ...] = get_args(Guarantee)
NOT_CALIBRATED = "not calibrated"

WiderBecause = Literal["no_task", "unknown_task", "too_few"]
"""Why a dial was resolved on more than the call's own task: it has none, one the calibration has
not seen, or one it has seen too few queries of."""


MOST_NAMED = 3
"""Candidates that a router's default name spells out."""


def joined_names(names: Sequence[str]) -> str:
    """Name a router by its candidates: all of a few, else the first, how many, and the last."""
    if len(names) > MOST_NAMED:
        return f"{names[0]}-and-{len(names) - 2}-others-vs-{names[-1]}"
    return "-vs-".join(names)


@dataclass(frozen=True, kw_only=True)
class RoutingQuery:
    """What the router scores: the user's own question, not the prompt around it."""

    text: str = field(repr=False)
    """The text to score. Kept out of reprs: it may be private."""
    source: QuerySource = "explicit"
    """How the text was found."""
    task: str | None = None
    """The task label, where the caller knows it."""
    retrieval: RetrievalFacts | None = None
    """What was retrieved for it, where known."""
    retrieval_source: RetrievalSource = "given"
    """Who told that, where it is known."""
    ways: str | None = None
    """How to state the question instead: given for a whole message, which is narrowed to its
    final question paragraph where it is longer than the router reads."""

    def __post_init__(self) -> None:
        if not isinstance(self.retrieval, RetrievalFacts | None):
            raise TypeError(f"retrieval is RetrievalFacts or None; got {type(self.retrieval)}.")


@dataclass(frozen=True)
class Candidate:
    """One model a router may choose; the last of a list is the reference (the large one)."""

    name: str
    """The name decisions, tags and `route=` use."""
    model: Any = field(default=None, repr=False, compare=False)
    """The chat model itself; `None` where only the name matters, as in a fitted router."""
    input_usd_per_million_tokens: float | None = None
    """Price of a million input tokens, in US dollars. Measured costs come first; where there are
    none, prices order and weigh the candidates, if every one of them has both."""
    output_usd_per_million_tokens: float | None = None
    """Price of a million output tokens, in US dollars."""
    aliases: tuple[str, ...] = ()
    """Other names of the same model, such as a provider's; they bind without a warning."""
    context_window: int | None = None
    """Tokens the model can read; `None` where unknown."""
    supports_tools: bool | None = None
    """Whether the model can call tools; `None` asks the model."""
    supports_structured_output: bool | None = None
    """Whether the model can answer in a schema; `None` asks the model."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if isinstance(self.aliases, str):
            raise CandidateError(
                f"Candidate {self.name!r}: aliases is a tuple of names; got {shown(self.aliases)}."
            )
        for alias in self.aliases:
            check_name(alias, f"An alias of candidate {self.name!r}")
        for price in (self.input_usd_per_million_tokens, self.output_usd_per_million_tokens):
            if price is not None and not 0 <= price < float("inf"):
                raise CandidateError(
                    f"Candidate {self.name!r}: prices are finite and at least 0; got {price!r}."
                )

    def call_usd(self, input_tokens: float, output_tokens: float) -> float | None:
        """Reckon the cost of a call in US dollars; `None` where a price is missing."""
        read, written = self.input_usd_per_million_tokens, self.output_usd_per_million_tokens
        if read is None or written is None:
            return None
        return (read * input_tokens + written * output_tokens) / 1e6

    def answers_to(self, name: str) -> bool:
        """Tell whether `name` is this candidate's name or one of its aliases."""
        return name == self.name or name in self.aliases


class Usage(BaseModel):
    """What one call consumed."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int = 0
    """Tokens read."""
    output_tokens: int = 0
    """Tokens written."""
    cost_usd: float | None = None
    """Cost of the call in US dollars; `None` where unknown."""


class AnswerSettings(BaseModel):
    """How an answer was made, or will be: a scorer of answers holds for answers made alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """The model, as it was named; models are told apart by their binding, not by this."""
    temperature: float | None = None
    """As it was asked for; `None` for the provider's default."""
    max_tokens: int | None = None
    """Most tokens of an answer; `None` for the provider's default."""
    system_sha256: str | None = None
    """Hash of the system prompt; `None` where there was none."""
    tools_sha256: str | None = None
    """Hash of the tools that were offered; `None` where there were none."""
    schema_sha256: str | None = None
    """Hash of the schema that was asked for; `None` where there was none."""
    logprobs: bool = False
    """Whether log-probabilities of its tokens were asked for and came."""

    def alike(self, other: AnswerSettings) -> bool:
        """Tell whether answers were made alike.

        The model is not compared, nor whether log-probabilities came: without them an answer is
        passed on where its scorer needs them.
        """
        names = ("temperature", "max_tokens", "system_sha256", "tools_sha256", "schema_sha256")
        return all(getattr(self, name) == getattr(other, name) for name in names)


_OF_ONE_RUN = {"latency_ms", "query_hash"}


class RoutingDecision(BaseModel):
    """One decision: which candidate answers, and why.

    It holds no text of the query unless the engine was asked to record it.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    candidate: str
    """Name of the chosen candidate."""
    index: int
    """Position of the chosen candidate; the last is the reference."""
    reason: Reason
    """The rule that decided."""
    scores: tuple[float, ...] | None = None
    """One score per candidate but the reference, higher = less need of the reference."""
    threshold: float | None = None
    """The threshold in force; infinite where every call goes to the reference."""
    dial: str | None = None
    """Name of the dial in force: the call's, the constructed one, or the router's default."""
    dial_value: float | None = None
    """Value of the dial, in the unit its name says."""
    confidence: float | None = None
    """How sure the limit in force is; `None` where an estimate, or no quality dial, is in force."""
    guarantee: Guarantee = "none"
    """`promised`: the mean drop over the calls that say so is within the limit, at the confidence;
    `estimated`: the limit was resolved on measured queries without a promise; `none`: no limit is
    claimed; `void`: this decision is not of the kind that was measured."""
    guarantee_reason: str | None = NOT_CALIBRATED
    """Why no more is claimed, such as `not calibrated`, `no promise` or `other candidates`; `None`
    where the limit is promised."""
    with_second_look: bool = False
    """Whether the line with second looks is in force: `reason="second_look"` then says that the
    candidate's answer is looked at, and all else that the query alone decided."""
    query_source: QuerySource = "none"
    """Where the scored text came from."""
    task: str | None = None
    """The task label, where one was given or predicted."""
    task_source: TaskSource | None = None
    """Who named the task."""
    calibrated_task: str | None = None
    """The task or suite on whose own calibration the dial was resolved: the setting holds within
    it. `None` where all tasks together served."""
    wider_because: WiderBecause | None = None
    """Why its suite, or all tasks together, served and not the task itself; `None` where it did,
    or where the router is not calibrated by task and none was given."""
    retrieval: RetrievalFacts | None = None
    """Facts of the retrieval that were scored beside the text; `None` where there were none, or
    the router sees none."""
    retrieval_source: RetrievalSource | None = None
    """Who told them; `missing` where the router sees facts and took the means of its training
    data. `None` where it sees none, or nothing was scored."""
    router_name: str | None = None
    """Name of the router."""
    router_version: str | None = None
    """Version of the router: the start of its graph's SHA-256."""
    latency_ms: float = 0.0
    """Time the decision took, scoring included."""
    query_length: int | None = None
    """Characters of the scored text."""
    query_truncated: bool = False
    """Whether the text is longer than the router reads: its head and tail alone were scored."""
    query_hash: str | None = None
    """Keyed BLAKE2b hash of the scored text; the key never leaves the process."""
    query: str | None = Field(default=None, repr=False)
    """The scored text; only where the engine was built with `record_query=True`, and only in what
    listeners, events and the router's own run are told."""
    error: str | None = None
    """The kind of error behind `router_error`; never its message, which may quote the query."""

    @property
    def score(self) -> float | None:
        """The score of the chosen candidate, or the best one where the reference was chosen."""
        if self.scores is None:
            return None
        return self.scores[self.index] if self.index < len(self.scores) else max(self.scores)

    def stable(self) -> dict[str, Any]:
        """Return, as JSON-able values, what does not change where the same call is made again.

        Messages carry this: a cache is asked with the history, and would miss by a time or by a
        hash that each process keys anew. They hold no text of the query, which would stand in
        outputs where a tracer hides inputs.
        """
        return self.without_text().model_dump(mode="json", exclude=_OF_ONE_RUN)

    def without_text(self) -> RoutingDecision:
        """Return it for carriers that nobody reads for the query, nor hides because of it."""
        return self if self.query is None else self.model_copy(update={"query": None})

    def flat(self) -> dict[str, str | int | float]:
        """Return what is known as scalars, for carriers that take nothing else.

        `scores` becomes the one `score`; where there are several, their JSON stands in `scores`.
        Facts of a retrieval stand one by one, as `retrieval_nodes` and so on.
        """
        known = {k: v for k, v in self.model_dump().items() if v is not None}
        scores = known.pop("scores", ())
        if self.score is not None:
            known["score"] = self.score
        if len(scores) > 1:
            known["scores"] = json.dumps(scores)
        facts = known.pop("retrieval", {})
        told = {f"retrieval_{k}": v for k, v in facts.items() if v is not None}
        return known | told

    def summary(self) -> str:
        """Say the decision in one line for people, without the query."""
        looks = self.reason == "second_look"
        parts = [f"{self.candidate} ({'looks first' if looks else self.reason})"]
        if self.score is not None and self.threshold is not None:
            parts.append(f"score {self.score:.3f}, threshold {self.threshold:.3f}")
        if self.dial is not None:
            parts.append(f"dial {self.dial}={self.dial_value}")
        if self.calibrated_task is not None:
            parts.append(f"within {self.calibrated_task}")
        if self.guarantee in ("promised", "void"):
            parts.append(": ".join(filter(None, (self.guarantee, self.guarantee_reason))))
        return ", ".join(parts)


class AttemptRecord(BaseModel):
    """One candidate asked, and what came of it; no text of an answer or of an error."""

    model_config = ConfigDict(frozen=True)

    candidate: str
    """Name of the candidate."""
    index: int
    """Its position; the last is the reference."""
    why: Why
    """Why it was asked."""
    error: FailureKind | None = None
    """What kind of error it ended with; `None` where it answered."""
    error_type: str | None = None
    """The error's class."""
    rejected: str | None = None
    """The check that rejected its answer; `second_look` where its score was too low."""
    answer_score: float | None = None
    """The score of its answer, in the units of the decision's scores; `None` where nobody looked,
    or it could not be scored."""
    look_error: str | None = None
    """Class of the error that kept its answer from being scored; `no_logprobs` where it came
    without the log-probabilities that the scorer was made with."""
    ms: float = 0.0
    """Milliseconds it took; of a stream, to its first chunk."""
    model: str | None = None
    """The model that answered, as its provider names it, where it tells."""
    usage: Usage | None = None
    """Tokens of its answer, where they are told."""

    @property
    def looked(self) -> bool:
        """Whether its answer was looked at by the router's scorer of answers."""
        return self.answer_score is not None or self.look_error is not None


def _total(attempts: Sequence[AttemptRecord]) -> Usage | None:
    known = [attempt.usage for attempt in attempts if attempt.usage is not None]
    if not known:
        return None
    costs = [each.cost_usd for each in known if each.cost_usd is not None]
    return Usage(
        input_tokens=sum(each.input_tokens for each in known),
        output_tokens=sum(each.output_tokens for each in known),
        cost_usd=sum(costs) if costs else None,
    )


class CallRecord(BaseModel):
    """What came of one call: what the router chose, who was asked, who answered."""

    model_config = ConfigDict(frozen=True)

    decision: RoutingDecision
    """What the router chose, and why."""
    attempts: tuple[AttemptRecord, ...] = ()
    """Every candidate that was asked, in order."""
    answered_by: str | None = None
    """Name of the candidate whose answer was given; `None` where the call failed."""
    index: int | None = None
    """Its position."""
    why: Why | None = None
    """Why that one answered."""
    guarantee: Guarantee = "none"
    """What holds of the answer's quality; as the decision's, unless another candidate answered."""
    guarantee_reason: str | None = None
    """Why no more is claimed; `fallback` where a cheaper model stood in."""
    broke_off: bool = False
    """Whether a stream broke after its first chunk, or was left before its end."""
    error_type: str | None = None
    """Class of the error that the call ended with."""
    latency_ms: float = 0.0
    """Milliseconds from the call to its end, decision included."""

    @property
    def escalated(self) -> bool:
        """Whether an answer was rejected on the way."""
        return any(attempt.rejected is not None for attempt in self.attempts)

    @property
    def looked(self) -> bool:
        """Whether an answer was looked at by the router's scorer of answers."""
        return any(attempt.looked for attempt in self.attempts)

    @property
    def accepted(self) -> bool | None:
        """Whether the first answer that was looked at was given; `None` where none was looked at.

        It is `False` too where it was passed on and given all the same, as nobody else answered.
        """
        return next((each.rejected is None for each in self.attempts if each.looked), None)

    @property
    def usage(self) -> Usage | None:
        """Tokens of all attempts together, where any is known."""
        return _total(self.attempts)

    @property
    def thrown_away(self) -> Usage | None:
        """Tokens of the answers that were not given, where any is known."""
        given = self.given
        return _total([attempt for attempt in self.attempts if attempt is not given])

    @property
    def given(self) -> AttemptRecord | None:
        """The attempt whose answer was given; `None` where the call failed."""
        if self.answered_by is None:
            return None
        own = (each for each in reversed(self.attempts) if each.index == self.index)
        return next((each for each in own if each.error is None), None)

    def summary(self) -> str:
        """Say the call in one line for people, without the query."""
        told = [f"{each.candidate}: {each.error or each.rejected}" for each in self.attempts]
        tried = ", ".join(each for each in told if not each.endswith(": None"))
        answered = f"{self.answered_by} ({self.why})" if self.answered_by else "nobody answered"
        return answered + (f" after {tried}" if tried else "")
