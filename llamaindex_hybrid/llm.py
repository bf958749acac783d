"""HybridLLM: two or more LLMs behind one, the router choosing per call."""

from __future__ import annotations

# Nothing here is imported for type checkers alone: pydantic reads the annotations of fields.
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    computed_field,
    field_validator,
    model_validator,
)

from llamaindex_hybrid.children import combined_metadata, known_metadata
from llamaindex_hybrid.condensed import CondensedQuestions
from llamaindex_hybrid.construction import OWNER, REFUSED, build_engine, check_assignment
from llamaindex_hybrid.conversations import place_of
from llamaindex_hybrid.dispatch import RoutedCall, given
from llamaindex_hybrid.foreign import Reader, Sent
from llamaindex_hybrid.kinds import Kind, check_policy
from llamaindex_hybrid.listening import Hearing, Refusals
from llamaindex_hybrid.operations import RoutedOperations
from llamaindex_hybrid.pickling import parts, rebuilt
from llamaindex_hybrid.queries import QUERY_VARIABLES, Asked
from llamaindex_hybrid.requests import preview, routing_request, said_in
from llamaindex_hybrid.structured import HybridStructuredLLM
from llamaindex_hybrid.tools import able_model, need_tools, tool_calls
from llamaindex_hybrid.views import APPLIED, merged_callbacks, view
from shared_router.context import current_options
from shared_router.engine.breaker import Health
from shared_router.engine.calls import Call
from shared_router.engine.conversations import Conversations
from shared_router.engine.engine import RoutingEngine
from shared_router.engine.fronts import check_parameters, own_error
from shared_router.options import CallOptions, SecondLook, second_look_from, split_options
from shared_router.records import CallRecord, Candidate, RoutingDecision


class HybridLLM(RoutedOperations):
    """An LLM that sends each call to a small or a large LLM.

    A real `LLM`: it goes wherever one goes, `Settings.llm` included. The wanted quality is a
    dial, given here, by keyword (`llm.chat(x, max_quality_drop=0.05)`) or by `hybrid_options(...)`;
    a keyword wins over the context, the context over the field. `route="NAME"` forces a
    candidate, `small` and `large` being the first and the last.

    A limit on quality is promised at `confidence`, which is given in the same ways. What cannot be
    promised goes to the large model, which is said in one warning in the log of `hybrid_llm`;
    `confidence="estimate"` follows the estimate instead. What holds of an answer stands in its
    decision: `guarantee`, `guarantee_reason` and `confidence`.

    Each decision stands in a `RoutingDecisionEvent`, in the callback event `hybrid_routing`, in the
    OpenTelemetry attributes `hybrid.routing.<field>` of the current span, and, but for what changes
    from run to run, in `response.additional_kwargs["hybrid_routing"]`.

    `system_prompt`, `query_wrapper_prompt`, `output_parser` and `pydantic_program_mode`, where
    given, hold for the chosen model in place of its own; `rate_limiter` works beside each model's.

    Example:
        >>> llm = HybridLLM(small=small, large=large, router=router)  # doctest: +SKIP
        >>> VectorStoreIndex(nodes).as_query_engine(llm=llm).query("...")  # doctest: +SKIP

    Raises:
        CandidateError: If models are missing, too many, or no models.
        ConfigurationError: If a parameter is unknown or cannot be honoured, such as a confidence
            where the models are not those of the calibration.
        NotCalibratedError: If a quality dial is given and the router is not calibrated.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    small: Any = Field(default=None, exclude=True)
    """The small model: a LlamaIndex LLM."""
    large: Any = Field(default=None, exclude=True)
    """The large model, the reference: likewise."""
    candidates: Sequence[Candidate] | None = Field(default=None, exclude=True)
    """Instead of `small` and `large`: one candidate per model of the router, the reference last."""
    router: Any = Field(default=None, exclude=True)
    """A `Router`, or its folder or hub name."""
    threshold: float | None = None
    """Dial: the score from which the small model is called."""
    cost_advantage: float | None = None
    """Dial: share of calls not sent to the reference, 0 to 1."""
    max_quality_drop: float | None = None
    """Dial: greatest quality drop, relative to all-reference (0.02 is 2 %): promised, see
    `confidence`, or every call goes to the reference."""
    max_quality_drop_absolute: float | None = None
    """Dial: greatest quality drop, in the metric's units."""
    confidence: float | Literal["estimate"] | None = None
    """How sure a quality limit must be, above 0.5 and below 1; 0.9 where not given, `estimate` for
    its estimate without a promise. It changes nothing of the dials that limit no quality."""
    query_variables: tuple[str, ...] = QUERY_VARIABLES
    """Prompt variables that hold the user's question, surest first."""
    no_query: Mapping[str, str] | None = None
    """Candidate for each kind of call that no user asked for, such as
    `{"extract": "small"}`; the kinds are those of `kinds.Kind`, the reference takes the others."""
    router_timeout_s: float = 5.0
    """Seconds a decision may take before the call goes to the reference. A fitted router's own
    scoring takes bounded time and is watched on async calls alone."""
    same_models: bool = False
    """States that these are the models of the calibration, whatever their names."""
    record_query: bool = False
    """Whether decisions hold the query's text where `on_decision`, the `RoutingDecisionEvent` and
    the callback event tell of them; responses and spans never do."""
    on_decision: Sequence[Callable[[RoutingDecision], object]] = Field(default=(), exclude=True)
    """Called with every decision."""
    fallback: str | Sequence[str] = "any"
    """Who else is asked where a model fails: `any` (the next dearer ones, then the cheaper), `up`
    (never a cheaper one), `off` (nobody), or names of candidates in order."""
    escalate: Any = Field(default=None, exclude=True)
    """Checks on an answer that send it to the next dearer model: names of `escalation.CHECKS`,
    functions of the answer, or several; `None` for the schema of structured output alone."""
    call_timeout_s: float | None = None
    """Seconds for a whole call: the decision and all attempts."""
    breaker: bool = True
    """Whether a model that fails again and again rests: it is asked last then."""
    second_look: bool | Literal["auto"] = "auto"
    """Whether the small model's answer is looked at where the question leaves it open: `auto` where
    the router can and it pays, streams left alone; `True` for streams too; `False` never."""
    conversation: Literal["auto", "turn", "keep"] = "auto"
    """Which model goes on with a conversation: at each new turn a dearer one where the question
    asks for it, a cheaper one where that pays (`auto`); the one the turn asks for (`turn`); the one
    chosen at the beginning (`keep`). Within a turn nobody switches unless the model fails."""
    is_mendable: Any = Field(default=None, exclude=True)
    """A function of an error: `True` where another model may mend it, `False` where not, `None`
    for the usual rule."""
    on_call: Sequence[Callable[[CallRecord], object]] = Field(default=(), exclude=True)
    """Called with the record of every call, at its end: all attempts, who answered, errors."""

    _engine: Any = PrivateAttr(default=None)
    _without_query: dict[Kind, str] = PrivateAttr(default_factory=dict)
    _conversations: Conversations = PrivateAttr(default_factory=Conversations)
    _readers: list[Reader] = PrivateAttr(default_factory=list)
    _condensed: CondensedQuestions = PrivateAttr(default_factory=CondensedQuestions)
    _options: CallOptions = PrivateAttr(default_factory=CallOptions)
    _refusals: Refusals = PrivateAttr(default_factory=Refusals)

    def __init__(self, **kwargs: Any) -> None:
        try:
            super().__init__(**kwargs)
        except ValidationError as error:
            raise own_error(OWNER, error) from None

    @model_validator(mode="before")
    @classmethod
    def _check_parameters(cls, values: Any) -> Any:
        check_parameters(OWNER, values, set(cls.model_fields), REFUSED)
        return values

    @field_validator("second_look", mode="before")
    @classmethod
    def _read_second_look(cls, given: Any) -> SecondLook:
        return second_look_from(given)

    def model_post_init(self, context: Any, /) -> None:
        """Bind the models to the router."""
        super().model_post_init(context)
        self._bind()

    def _bind(self, before: RoutingEngine | None = None) -> None:
        self._engine = build_engine(self, before)
        self._readers = [Reader.of(candidate) for candidate in self.engine.candidates]
        self._without_query = check_policy(self.no_query or {}, self.engine.candidates)

    def model_copy(self, *, update: Any = None, deep: bool = False) -> HybridLLM:
        """Copy the model, binding it anew where something is changed."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            check_parameters(OWNER, dict(update), set(type(self).model_fields), REFUSED)
            copied._bind(self.engine)  # noqa: SLF001
        return copied

    def holding(self, options: CallOptions) -> HybridLLM:
        """Return a copy that brings these routing options to each of its calls."""
        if options == CallOptions():
            return self
        copied = super().model_copy()
        copied._options = options.over(self._options)  # noqa: SLF001
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would change the attribute and not the routing."""
        if not name.startswith("_") and self.__dict__.get(name) is not value:
            check_assignment(name, value, HybridLLM.__annotations__)
        super().__setattr__(name, value)

    def __repr_args__(self) -> Iterator[tuple[None, RoutingEngine]]:
        """Show names alone, also to rich: the wrapped models may hold keys."""
        yield None, self.engine

    def __str__(self) -> str:
        return repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the model was made of, without secrets; what does not pickle is an error."""
        left = {"callback_manager", *REFUSED}  # handlers belong to a process
        given = {name: getattr(self, name) for name in self.model_fields_set if name not in left}
        return rebuilt, (type(self), parts(OWNER, given), self._options)

    @property
    def engine(self) -> RoutingEngine:
        """The routing engine at work."""
        return cast("RoutingEngine", self._engine)

    # -- what the host asks of an LLM ---------------------------------------------------------

    @classmethod
    def class_name(cls) -> str:
        """Name the class as LlamaIndex does when it writes objects down."""
        return OWNER

    @property
    def metadata(self) -> LLMMetadata:
        """Describe all models as one: before a route exists, a prompt must fit any of them."""
        return combined_metadata(self.engine.candidates)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def routing(self) -> dict[str, Any]:
        """What is written down of the models and the router: enough to tell two apart."""
        return {
            "candidates": [
                {
                    "name": candidate.name,
                    "class_name": candidate.model.class_name(),
                    **_told(candidate.model),
                }
                for candidate in self.engine.candidates
            ],
            "router": self.engine.router.name,
            "router_version": self.engine.router.version,
            **self.engine.asked.named(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> HybridLLM:
        """Make one from what `to_dict` wrote; the models and the router are given anew.

        Raises:
            CandidateError: If they are not.
        """
        return super().from_dict({k: v for k, v in data.items() if k != "routing"}, **kwargs)

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> HybridStructuredLLM:
        """Return an LLM that answers in a schema, by each model's own way of doing it.

        Args:
            output_cls: The schema.
            **kwargs: Dials, `route` and `task` for all its calls; a call's own win.

        Raises:
            ConfigurationError: If one of them is wrong.
        """
        options, rest = split_options(kwargs)
        return HybridStructuredLLM(llm=self.holding(options), output_cls=output_cls, **rest)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Read the tool calls of a response, as the model that answered writes them.

        Raises:
            ValueError: If there are none and one is expected.
        """
        return tool_calls(
            response,
            self.engine.candidates,
            error_on_no_tool_call=error_on_no_tool_call,
            **kwargs,
        )

    def _prepare_chat_with_tools(self, tools: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Serve callers of the private hook; every public method delegates by itself."""
        need_tools(self.can_call_tools)
        model = able_model(self.engine.candidates)
        prepared: dict[str, Any] = model._prepare_chat_with_tools(tools, *args, **kwargs)  # noqa: SLF001
        return prepared

    # -- routed calls -------------------------------------------------------------------------

    @property
    def can_call_tools(self) -> bool:
        """Whether any of the models can call tools."""
        return any(candidate.supports_tools for candidate in self.engine.candidates)

    def routed_call(
        self,
        name: str,
        asked: Asked,
        options: CallOptions,
        invoke: Callable[[LLM, str, Sent], Any],
        *,
        needs_tools: bool = False,
        needs_structured_output: bool = False,
        committed: Callable[[], bool] | None = None,
    ) -> RoutedCall[Any]:
        """Prepare one call; see `RoutedOperations`."""
        options = options.over(self._options).over(current_options())
        variables = self.query_variables
        place = place_of(asked, variables, options, self.engine, self._conversations)
        by_function = self.pydantic_program_mode == PydanticProgramMode.FUNCTION
        request = routing_request(
            asked,
            options,
            self.engine,
            variables,
            self._without_query,
            needs_tools=needs_tools or (needs_structured_output and by_function),
            needs_structured_output=needs_structured_output,
            place=place,
            system_prompt=self.system_prompt,
            condensed=self._condensed,
        )

        def answered(call: Call) -> None:
            self._conversations.remember(place, call)
            self._condensed.hear(asked, given(call.answer))

        return RoutedCall(
            owner=self,
            name=name,
            request=request,
            invoke=invoke,
            answered=answered,
            said=lambda: said_in(asked),
            committed=committed,
        )

    def health(self) -> list[Health]:
        """Say how each model does in this process: healthy, resting, probing or misconfigured."""
        return self.engine.health()

    def reset(self) -> None:
        """Forget all failures of the models: none rests any more."""
        self.engine.reset()

    def sent(self, index: int) -> Sent:
        """Return what makes of a call what the model at a position can read."""
        return Sent(index, self._readers)

    def hearing(self, index: int, *, logprobs: bool) -> Hearing:
        """Begin to listen to a model, which may have refused to tell log-probabilities."""
        return self._refusals.hearing(self.engine.candidates[index].model, logprobs=logprobs)

    def asked(self, index: int, hearing: Hearing | None = None) -> LLM:
        """Return a model that is asked: what the wrapper says holds, and its handlers hear."""
        model: LLM = self.engine.candidates[index].model
        unsaid = (None, PydanticProgramMode.DEFAULT)
        said = {name: getattr(self, name) for name in APPLIED}
        seen = {name: value for name, value in said.items() if value not in unsaid}
        manager = merged_callbacks(self.callback_manager, model.callback_manager)
        if manager is not model.callback_manager:
            seen["callback_manager"] = manager
        return view(model, seen, hearing)

    def route(
        self,
        value: str | Sequence[ChatMessage] | BasePromptTemplate,
        *,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> RoutingDecision:
        """Preview the decision of a call, calling no model.

        Args:
            value: A text, messages, or a prompt, whose variables are keywords.
            tools: Tools, where the call would have some.
            **kwargs: Dials, `route`, `task`; all else as the call takes it.
        """
        return self.engine.decide(self._preview(value, tools, kwargs).request)

    async def aroute(
        self,
        value: str | Sequence[ChatMessage] | BasePromptTemplate,
        *,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> RoutingDecision:
        """Preview the decision of a call without blocking the event loop; see `route`."""
        return await self.engine.adecide(self._preview(value, tools, kwargs).request)

    def _preview(self, value: Any, tools: Any, kwargs: dict[str, Any]) -> RoutedCall[Any]:
        asked, options = preview(value, kwargs)
        return self.routed_call(
            "route", asked, options, lambda model, way, sent: model, needs_tools=bool(tools)
        )


def _told(model: LLM) -> dict[str, Any]:
    """Return what a model tells of itself, to be written down."""
    known = known_metadata(model)
    return {} if known is None else known.model_dump()
