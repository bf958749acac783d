"""HybridChatModel: two or more chat models behind one, the router choosing per call."""

from __future__ import annotations

# Nothing here is imported for type checkers alone: the host reads annotations at run time
# (fallbacks look at what a method returns, pydantic at fields).
import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal, cast

from langchain_core.callbacks import CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig, ensure_config
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from langchain_hybrid.binding import Dialled
from langchain_hybrid.children import base_models, intersect_profiles, model_profile
from langchain_hybrid.construction import OWNER, REFUSED, build_engine
from langchain_hybrid.conversations import config_specs, place_of
from langchain_hybrid.dispatch import RoutedCall
from langchain_hybrid.events import achat_stream, chat_stream
from langchain_hybrid.generating import call_configs, llm_result
from langchain_hybrid.requests import (
    Bound,
    call_options,
    merged_config,
    routing_request,
    with_stop,
)
from langchain_hybrid.structured import HybridStructuredOutput
from langchain_hybrid.targets import Targets
from langchain_hybrid.tools import BoundTools
from shared_router.engine.breaker import Health
from shared_router.engine.conversations import Conversations
from shared_router.engine.engine import RoutingEngine
from shared_router.engine.fronts import check_parameters, own_error
from shared_router.errors import ConfigurationError
from shared_router.options import split_options
from shared_router.records import CallRecord, Candidate, RoutingDecision

_BINDING = frozenset({"small", "large", "candidates"})


class HybridChatModel(Dialled, BaseChatModel):
    """A chat model that sends each call to a small or a large chat model.

    A real `BaseChatModel`: it goes wherever one goes. The wanted quality is a dial, given here,
    by keyword (`model.invoke(x, max_quality_drop=0.05)`), in a config
    (`{"configurable": {"hybrid_max_quality_drop": 0.05}}`) or by `hybrid_options(...)`; a keyword
    wins over a config, a config over the context, the context over the field. `route="NAME"`
    forces a candidate, `small` and `large` being the first and the last.

    A limit on quality is promised at `confidence`, which is given in the same ways. What cannot be
    promised goes to the large model, which is said in one warning in the log of `hybrid_llm`;
    `confidence="estimate"` follows the estimate instead. What holds of an answer stands in its
    decision: `guarantee`, `guarantee_reason` and `confidence`.

    Each decision stands in the tags and metadata of the called model's run, in the outputs of the
    `HybridRouter` run, in a custom event, and, but for what changes from run to run, in
    `response_metadata["hybrid_routing"]`.

    Example:
        >>> model = HybridChatModel(small=small, large=large, router=router)  # doctest: +SKIP
        >>> (prompt | model | parser).invoke({"question": "..."})  # doctest: +SKIP

    Raises:
        CandidateError: If models are missing, too many, or no models.
        ConfigurationError: If a parameter is unknown or cannot be honoured, such as a confidence
            where the models are not those of the calibration.
        NotCalibratedError: If a quality dial is given and the router is not calibrated.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    small: Any = Field(default=None, exclude=True)
    """The small model: a chat model, a Runnable around one, or a `provider:model` string."""
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
    query_extractor: Any = Field(default=None, exclude=True)
    """A function of the messages that returns the user's question or `None`, or several of
    them; `QueryFromPrompt` is one."""
    router_timeout_s: float = 5.0
    """Seconds a decision may take before the call goes to the reference. A fitted router's own
    scoring takes bounded time and is watched on async calls alone."""
    same_models: bool = False
    """States that these are the models of the calibration, whatever their names."""
    record_query: bool = False
    """Whether decisions hold the query's text where `on_decision`, the custom event and the outputs
    of the `HybridRouter` run tell of them; messages, metadata and spans never do."""
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
    """Whether a small model's answer is scored where the question leaves it open: `auto` where the
    router can and it pays, streams left alone; `True` for streams too; `False` never."""
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
    _bound: Bound = PrivateAttr(default_factory=Bound)
    _targets: Targets = PrivateAttr(default_factory=Targets)
    _conversations: Conversations = PrivateAttr(default_factory=Conversations)

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

    def model_post_init(self, context: Any, /) -> None:
        """Bind the models to the router."""
        super().model_post_init(context)
        self._engine = build_engine(self)

    def model_copy(self, *, update: Any = None, deep: bool = False) -> HybridChatModel:
        """Copy the model, binding it anew where something is changed."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            copied._engine = build_engine(copied, self.engine)  # noqa: SLF001
            if "profile" not in update and _BINDING.intersection(update):
                copied.profile = copied._resolve_model_profile()  # noqa: SLF001
        return copied

    def holding(self, bound: Bound) -> HybridChatModel:
        """Return a copy that brings these routing options to each of its calls."""
        copied = super().model_copy()
        copied._bound = bound.over(self._bound)  # noqa: SLF001
        return copied

    def held(self) -> Bound:
        """Return the routing options that it brings to each of its calls."""
        return self._bound

    def check(self, config: RunnableConfig | None) -> None:
        """Refuse a call's options that cannot be honoured; see `Dialled`."""
        options, _ = call_options(ensure_config(config), {}, self._bound)
        self.engine.check(options)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would change the attribute and not the routing."""
        fixed = not name.startswith("_") and name in HybridChatModel.__annotations__
        if fixed and self.__dict__.get(name) is not value:
            raise ConfigurationError(
                f"{name} is fixed at construction: use model.model_copy(update={{{name!r}: ...}}), "
                "or give a dial per call."
            )
        super().__setattr__(name, value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show names alone, also to rich: the wrapped models may hold keys."""
        yield None, self.engine
        if self._bound != Bound():
            yield "bound", self._bound

    def __str__(self) -> str:
        return repr(self)

    @property
    def engine(self) -> RoutingEngine:
        """The routing engine at work."""
        return cast("RoutingEngine", self._engine)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What a config can set, for interfaces and servers that offer and check it."""
        return config_specs()

    # -- what the host asks of a chat model ---------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "hybrid"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "candidates": [candidate.name for candidate in self.engine.candidates],
            "router": self.engine.router.name,
            "router_version": self.engine.router.version,
            **self.engine.asked.named(),
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        del stop
        names = "|".join(candidate.name for candidate in self.engine.candidates)
        return {
            "ls_provider": "hybrid",
            "ls_model_name": kwargs.get("model") or f"hybrid({names})",
            "ls_model_type": "chat",
        }

    def _resolve_model_profile(self) -> ModelProfile | None:
        profiles = [model_profile(candidate.model) for candidate in self.engine.candidates]
        return cast("ModelProfile | None", intersect_profiles(profiles))

    def _counting(self) -> BaseChatModel:
        return next(base_models(self.engine.candidates[-1].model))

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize as the reference does."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._counting().get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Count tokens as the reference does."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return self._counting().get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        """Count the tokens of messages as the reference does."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        return self._counting().get_num_tokens_from_messages(messages, tools)

    # -- routed calls -------------------------------------------------------------------------

    def routed_call(
        self,
        value: LanguageModelInput,
        config: RunnableConfig | None,
        kwargs: dict[str, Any],
        structured: HybridStructuredOutput | None = None,
    ) -> RoutedCall:
        """Prepare one call.

        Args:
            value: The input, as `invoke` takes it.
            config: The caller's config.
            kwargs: The call's keywords; routing options are taken out of them.
            structured: What answers in a schema, where one is asked for.
        """
        engine, config = self.engine, merged_config(self, config)
        options, rest = call_options(config, kwargs, self._bound)
        messages = self._convert_input(value).to_messages()
        place = place_of(self._conversations, messages, options, engine, config)
        request = routing_request(
            messages,
            options,
            engine,
            self.query_extractor,
            rest,
            () if structured is None else (structured.schema_,),
            place,
        )
        chain = None if structured is None else structured.chain
        target, rest = self._targets.of(engine.candidates, rest, chain)
        return RoutedCall(
            engine=engine,
            target=target,
            name=self.get_name(),
            value=value,
            messages=messages,
            config=config,
            request=request,
            kwargs=rest,
            rate_limiter=self.rate_limiter,
            answered=lambda call: self._conversations.remember(place, call),
        )

    def health(self) -> list[Health]:
        """Say how each model does in this process: healthy, resting, probing or misconfigured."""
        return self.engine.health()

    def reset(self) -> None:
        """Forget all failures of the models: none rests any more."""
        self.engine.reset()

    def route(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> RoutingDecision:
        """Preview the decision of a call, calling no model.

        Args:
            input: As `invoke` takes it.
            config: As `invoke` takes it.
            **kwargs: As `invoke` takes them: dials, `route`, `tools` and so on.
        """
        return self.engine.decide(self.routed_call(input, config, kwargs).request)

    async def aroute(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> RoutingDecision:
        """Preview the decision of a call without blocking the event loop; see `route`."""
        return await self.engine.adecide(self.routed_call(input, config, kwargs).request)

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Route, then call the chosen model."""
        call = self.routed_call(input, config, with_stop(kwargs, stop))
        return cast("AIMessage", call.invoke())

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Route, then call the chosen model."""
        call = self.routed_call(input, config, with_stop(kwargs, stop))
        return cast("AIMessage", await call.ainvoke())

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Route, then stream the chosen model; dials in force now hold, whenever it is read."""
        call = self.routed_call(input, config, with_stop(kwargs, stop))
        return call.once() if self._streaming_disabled(**kwargs) else call.stream()

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Route, then stream the chosen model; dials in force now hold, whenever it is read."""
        call = self.routed_call(input, config, with_stop(kwargs, stop))
        return call.aonce() if self._streaming_disabled(**kwargs) else call.astream()

    def stream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Stream events; `version="v3"` returns the chosen model's own stream object."""
        if version == "v3":
            return chat_stream(self.routed_call(input, config, with_stop(kwargs, stop)))
        return super().stream_events(input, config, version=version, stop=stop, **kwargs)

    def astream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Stream events; `version="v3"` is awaited for the chosen model's own stream object."""
        if version == "v3":
            return achat_stream(self.routed_call(input, config, with_stop(kwargs, stop)))
        return super().astream_events(input, config, version=version, stop=stop, **kwargs)

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Route and call each list of messages."""
        configs = call_configs(len(messages), callbacks, tags, metadata, run_name, run_id)
        pairs = zip(messages, configs, strict=True)
        answers = [self.invoke(each, config, stop=stop, **kwargs) for each, config in pairs]
        return llm_result(answers, configs)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Route and call each list of messages, all at once."""
        configs = call_configs(len(messages), callbacks, tags, metadata, run_name, run_id)
        pairs = zip(messages, configs, strict=True)
        calls = [self.ainvoke(each, config, stop=stop, **kwargs) for each, config in pairs]
        answers = await asyncio.gather(*calls, return_exceptions=True)  # none is left unawaited
        failed = next((each for each in answers if isinstance(each, BaseException)), None)
        if failed is not None:
            raise failed
        return llm_result(cast("list[AIMessage]", answers), configs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Serve callers of the private hook; every public method delegates by itself."""
        del run_manager
        message = self.invoke(messages, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    # -- tools and structured output ----------------------------------------------------------

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; the chosen model formats them for its provider when it is called.

        A model that cannot call tools is not chosen for such a call.

        Raises:
            NotImplementedError: If no model can call tools.
        """
        if not any(candidate.supports_tools for candidate in self.engine.candidates):
            raise NotImplementedError("None of the wrapped models can call tools.")
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        bound: Runnable[LanguageModelInput, AIMessage] = self.bind(
            tools=BoundTools(tools, frozenset(kwargs)), **kwargs
        )
        return bound

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Answer in a schema, by each model's own way of doing it.

        Raises:
            ConfigurationError: If a routing option among the keywords is wrong.
            NotImplementedError: If no model can answer in a schema.
        """
        able = [c for c in self.engine.candidates if c.supports_structured_output]
        if not able:
            raise NotImplementedError("None of the wrapped models can answer in a schema.")
        routing, rest = split_options(kwargs)
        structured = HybridStructuredOutput(
            model=self.holding(Bound(keywords=routing)),
            schema_=schema,
            options={"include_raw": include_raw, **rest},
        )
        for candidate in able:
            structured.chain(candidate)  # a wrong argument shows here, not at the first call
        return structured
