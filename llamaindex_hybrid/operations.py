"""Every operation of a LlamaIndex LLM, delegated whole to the chosen model.

Whole, so that a provider's own ways (native JSON schemas, its tools, its prompt format) are kept,
and each event is sent once: none of these is decorated with LlamaIndex's callbacks, the chosen
model's own are. Streams are routed when they are asked for, not when they are read.
"""

# What a delegated method returns is known by its name alone.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index_instrumentation import get_dispatcher

from llamaindex_hybrid.requests import (
    asked_in_messages,
    asked_in_prompt,
    asked_in_text,
    prompt_options,
    with_user_message,
)
from llamaindex_hybrid.tools import (
    WatchedTools,
    chat_with_tools,
    need_tools,
    predict_and_call,
)
from shared_router.options import split_options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from llama_index.core.chat_engine.types import AgentChatResponse
    from llama_index.core.tools.types import BaseTool
    from llama_index.core.types import TokenAsyncGen, TokenGen

    from llamaindex_hybrid.dispatch import RoutedCall
    from llamaindex_hybrid.foreign import Sent
    from llamaindex_hybrid.queries import Asked
    from shared_router.options import CallOptions

dispatcher = get_dispatcher(__name__)


class RoutedOperations(FunctionCallingLLM):
    """An LLM whose every operation is a routed call."""

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
        """Prepare one call; subclasses do.

        Not abstract: LlamaIndex makes a span of every method that is.

        Args:
            name: The method's name, which tells whether it is async and whether it streams.
            asked: What it was given.
            options: Its own routing options.
            invoke: Calls a method of a model, by its name, with what that model reads.
            needs_tools: Whether the model must call tools.
            needs_structured_output: Whether it must answer in a schema.
            committed: Tells whether nobody else may be asked any more.
        """
        raise NotImplementedError

    def delegated(
        self,
        name: str,
        asked: Asked,
        options: CallOptions,
        invoke: Callable[[LLM, str, Sent], Any],
        **needs: Any,
    ) -> Any:
        """Make one call as its name says; see `routed_call`."""
        return self.routed_call(name, asked, options, invoke, **needs).made()

    @property
    @abstractmethod
    def can_call_tools(self) -> bool:
        """Whether any of the models can call tools."""

    # -- chat ---------------------------------------------------------------------------------

    def _chat(self, name: str, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        options, rest = split_options(kwargs)
        asked = asked_in_messages(messages, keywords=rest)

        def invoke(model: LLM, way: str, sent: Sent) -> Any:
            return getattr(model, way)(sent.messages(messages), **sent.keywords(rest))

        return self.delegated(name, asked, options, invoke)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Route, then chat with the chosen model."""
        return self._chat("chat", messages, kwargs)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Route, then chat with the chosen model."""
        return await self._chat("achat", messages, kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Route, then stream the chosen model's chat."""
        return self._chat("stream_chat", messages, kwargs)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Route, then stream the chosen model's chat."""
        return await self._chat("astream_chat", messages, kwargs)

    # -- completion ---------------------------------------------------------------------------

    def _complete(
        self, name: str, prompt: str | None, formatted: bool, kwargs: dict[str, Any]
    ) -> Any:
        if prompt is None:
            raise ValueError(f"{name} needs a prompt: the text to complete.")
        options, rest = split_options(kwargs)
        if formatted:
            rest["formatted"] = True
        asked = asked_in_text(prompt, keywords=rest)

        def invoke(model: LLM, way: str, sent: Sent) -> Any:
            return getattr(model, way)(prompt, **sent.keywords(rest))

        return self.delegated(name, asked, options, invoke)

    def complete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Route, then complete with the chosen model."""
        return self._complete("complete", prompt, formatted, kwargs)

    async def acomplete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Route, then complete with the chosen model."""
        return await self._complete("acomplete", prompt, formatted, kwargs)

    def stream_complete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Route, then stream the chosen model's completion."""
        return self._complete("stream_complete", prompt, formatted, kwargs)

    async def astream_complete(
        self, prompt: str | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Route, then stream the chosen model's completion."""
        return await self._complete("astream_complete", prompt, formatted, kwargs)

    # -- prompts ------------------------------------------------------------------------------

    def _prompt(self, name: str, prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Any:
        options, rest = prompt_options(prompt, prompt_args)
        asked = asked_in_prompt(prompt, rest)

        def invoke(model: LLM, way: str, sent: Sent) -> Any:
            return getattr(model, way)(sent.prompt(prompt), **rest)

        return self.delegated(name, asked, options, invoke)

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Route by the prompt's question, then answer the prompt."""
        return self._prompt("predict", prompt, prompt_args)

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Route by the prompt's question, then answer the prompt."""
        return await self._prompt("apredict", prompt, prompt_args)

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Route by the prompt's question, then stream the answer."""
        return self._prompt("stream", prompt, prompt_args)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Route by the prompt's question, then stream the answer."""
        return await self._prompt("astream", prompt, prompt_args)

    # -- structured output --------------------------------------------------------------------

    def _structured(
        self,
        name: str,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> Any:
        below, for_llm = split_options(llm_kwargs or {})
        options, rest = prompt_options(prompt, prompt_args)

        def invoke(model: LLM, way: str, sent: Sent) -> Any:
            method, told = getattr(model, way), sent.keywords(for_llm) or None
            return method(output_cls, sent.prompt(prompt), llm_kwargs=told, **rest)

        asked = asked_in_prompt(prompt, rest, keywords=for_llm, schema=output_cls)
        return self.delegated(
            name, asked, options.over(below), invoke, needs_structured_output=True
        )

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Route by the prompt's question, then answer in a schema."""
        return self._structured("structured_predict", output_cls, prompt, llm_kwargs, prompt_args)

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Route by the prompt's question, then answer in a schema."""
        return await self._structured(
            "astructured_predict", output_cls, prompt, llm_kwargs, prompt_args
        )

    def stream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Route by the prompt's question, then stream partial answers in a schema."""
        return self._structured(
            "stream_structured_predict", output_cls, prompt, llm_kwargs, prompt_args
        )

    async def astream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """Route by the prompt's question, then stream partial answers in a schema."""
        return await self._structured(
            "astream_structured_predict", output_cls, prompt, llm_kwargs, prompt_args
        )

    # -- tools --------------------------------------------------------------------------------

    def _with_tools(self, name: str, tools: Sequence[BaseTool], given: dict[str, Any]) -> Any:
        need_tools(self.can_call_tools)
        options, rest = split_options(given)
        said = with_user_message(given["user_msg"], given["chat_history"])
        asked = asked_in_messages(said, keywords=rest, tools=tools)
        return self.delegated(
            name,
            asked,
            options,
            lambda model, way, sent: chat_with_tools(model, way, tools, sent.keywords(rest)),
            needs_tools=True,
        )

    @dispatcher.span
    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Route to a model that can call tools, then chat with it.

        Raises:
            CandidateError: If none can.
        """
        return self._with_tools("chat_with_tools", tools, _given(locals()))

    @dispatcher.span
    async def achat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Route to a model that can call tools, then chat with it; see `chat_with_tools`."""
        return await self._with_tools("achat_with_tools", tools, _given(locals()))

    @dispatcher.span
    def stream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseGen:
        """Route to a model that can call tools, then stream its chat; see `chat_with_tools`."""
        return self._with_tools("stream_chat_with_tools", tools, _given(locals()))

    @dispatcher.span
    async def astream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseAsyncGen:
        """Route to a model that can call tools, then stream its chat; see `chat_with_tools`."""
        return await self._with_tools("astream_chat_with_tools", tools, _given(locals()))

    def _and_call(self, name: str, tools: Sequence[BaseTool], given: dict[str, Any]) -> Any:
        watch = WatchedTools(tools)
        options, rest = split_options(given)
        said = with_user_message(given["user_msg"], given["chat_history"])
        asked = asked_in_messages(said, keywords=rest, tools=tools)
        return self.delegated(
            name,
            asked,
            options,
            lambda model, way, sent: predict_and_call(model, way, watch.tools, sent.keywords(rest)),
            committed=watch.has_run,
            needs_tools=self.can_call_tools,  # where no model can, each can still be asked in text
        )

    def predict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Route, then let the chosen model choose tools, and call them."""
        return self._and_call("predict_and_call", tools, _given(locals()))

    async def apredict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Route, then let the chosen model choose tools, and call them."""
        return await self._and_call("apredict_and_call", tools, _given(locals()))


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Gather a method's arguments as keywords for the same method of another model."""
    kwargs = arguments["kwargs"]
    named = {k: v for k, v in arguments.items() if k not in ("self", "tools", "kwargs")}
    return {**named, **kwargs}
