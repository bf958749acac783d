"""Every operation of an LLM is one routed call, and gives what the chosen model gives."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate

from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.streams import aprimed, primed
from shared_router import hybrid_options
from shared_router.errors import CandidateError, ConfigurationError, DialError
from shared_router.testing import fixed_router
from tests.llamaindex.fakes import (
    ANSWER,
    USAGE,
    Decisions,
    FakeLLM,
    PlainLLM,
    RecordingScorer,
    decision_of,
    hybrid,
    pair,
)
from tests.llamaindex.operations import (
    ALL,
    CHAT_PROMPT,
    ENDPOINTS,
    PROMPT,
    QUESTION,
    STREAMS,
    STRUCTURED,
    TOOL,
    TOOLED,
    VARIABLES,
    WITH_TOOLS,
    WITHOUT_TOOLS,
    Answer,
    arguments,
    drawn,
    messages,
    run,
    text_of,
    with_async,
)

POCKET_TOO = [name for name in WITHOUT_TOOLS if "structured" not in name]
"""A model of numbers alone fills no schema and calls no tool."""


def wrapped(inner: tuple[Any, Any], **options: Any) -> HybridLLM:
    given = {"router": fixed_router(1.0), "same_models": True, **options}
    return HybridLLM(small=inner[0], large=inner[1], **given)


# -- each operation, over fakes and over a real pair behind a server ------------------------------


@pytest.mark.parametrize("name", POCKET_TOO)
@pytest.mark.parametrize("score", [1.0, -1.0], ids=["small", "large"])
async def test_an_operation_gives_what_the_chosen_model_gives(
    name: str, score: float, inner: tuple[Any, Any], decisions: Decisions
) -> None:
    llm = wrapped(inner, router=fixed_router(score), on_decision=[decisions.append])
    ours = await run(llm, name)
    theirs = await run(inner[0 if score > 0 else 1], name)
    assert [text_of(each) for each in ours] == [text_of(each) for each in theirs]
    assert [type(each) for each in ours] == [type(each) for each in theirs]
    assert decisions.candidates == [llm.engine.candidates[0 if score > 0 else 1].name]


@pytest.mark.parametrize("name", with_async(ENDPOINTS))
async def test_every_chunk_bears_the_decision_and_the_answer_keeps_its_own(
    name: str, inner: tuple[Any, Any]
) -> None:
    llm = wrapped(inner)
    for answer in await run(llm, name):
        assert decision_of(answer)["candidate"] == llm.engine.candidates[0].name
        assert decision_of(answer)["reason"] == "score"
        assert answer.raw is not None


@pytest.mark.parametrize("name", [name for name in with_async(ENDPOINTS) if "stream" in name])
async def test_deltas_add_up_to_the_answer(name: str, inner: tuple[Any, Any]) -> None:
    chunks = await run(wrapped(inner), name)
    assert "".join(chunk.delta or "" for chunk in chunks) == text_of(chunks[-1])


# -- each operation, over fakes -------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("score", [1.0, -1.0], ids=["small", "large"])
async def test_the_chosen_model_alone_is_called_once(
    name: str, score: float, scorer: RecordingScorer, decisions: Decisions
) -> None:
    small, large = pair()
    scorer.value = score
    llm = hybrid(small, large, score=scorer, on_decision=[decisions.append])
    ours = await run(llm, name)
    called, idle = (small, large) if score > 0 else (large, small)
    assert (len(called.requests), len(idle.requests)) == (1, 0)
    assert scorer.texts == [QUESTION]
    assert decisions.reasons == ["score"]
    theirs = await run(called, name)
    assert list(map(text_of, ours)) == list(map(text_of, theirs))
    assert called.requests[0] == called.requests[1]


@pytest.mark.parametrize("name", ALL)
async def test_the_source_of_the_query_is_recorded(name: str, decisions: Decisions) -> None:
    await run(hybrid(on_decision=[decisions.append]), name)
    prompted = "predict" in name and "call" not in name
    prompted |= name in ("stream", "astream")
    assert decisions.sources == ["prompt_variable" if prompted else "last_user_message"]


@pytest.mark.parametrize("name", ALL)
async def test_a_dial_by_keyword_routes_and_does_not_reach_the_model(
    name: str, decisions: Decisions
) -> None:
    small, large = pair()
    llm = hybrid(small, large, on_decision=[decisions.append])
    await run(llm, name, threshold=2.0)
    await run(llm, name, route="small", task="sums")
    with hybrid_options(threshold=3.0):
        await run(llm, name)
        await run(llm, name, threshold=0.5)
    assert decisions.candidates == ["large", "small", "large", "small"]
    assert decisions.reasons == ["score", "forced", "score", "score"]
    assert decisions[1].task == "sums"
    for request in (*small.requests, *large.requests):
        assert not {"threshold", "route", "task"} & set(request)


@pytest.mark.parametrize("name", with_async((*ENDPOINTS, *TOOLED)))
async def test_other_keywords_reach_the_model(name: str) -> None:
    small, large = pair()
    await run(hybrid(small, large), name, temperature=0.25)
    assert small.requests[0]["temperature"] == 0.25


@pytest.mark.parametrize("name", with_async(STRUCTURED))
async def test_a_dial_among_the_llm_kwargs_is_taken_out_of_them(
    name: str, decisions: Decisions
) -> None:
    small, large = pair()
    llm = hybrid(small, large, on_decision=[decisions.append])
    given = {"threshold": 2.0, "temperature": 0.25}
    await run(llm, name, llm_kwargs=given)
    assert given == {"threshold": 2.0, "temperature": 0.25}
    assert decisions.candidates == ["large"]
    assert large.requests[0]["temperature"] == 0.25
    assert "threshold" not in large.requests[0]


@pytest.mark.parametrize("name", ALL)
async def test_an_almost_right_option_is_refused(name: str) -> None:
    small, large = pair()
    with pytest.raises(ConfigurationError, match="did you mean 'max_quality_drop'"):
        await run(hybrid(small, large), name, max_quality_dropp=0.1)
    with pytest.raises(DialError, match="One dial at a time"):
        await run(hybrid(small, large), name, threshold=0.1, cost_advantage=0.2)
    assert small.requests == large.requests == []


@pytest.mark.parametrize("name", ALL)
async def test_the_models_own_error_is_the_callers(name: str) -> None:
    small, large = pair(fail_after=0)
    with pytest.raises(ConnectionError, match="the provider is down"):
        await run(hybrid(small, large, fallback="off"), name)
    assert (len(small.requests), len(large.requests)) == (1, 0)


@pytest.mark.parametrize("name", ALL)
async def test_a_router_that_fails_sends_to_the_large_model(
    name: str, decisions: Decisions
) -> None:
    def broken(text: str) -> float:
        raise RuntimeError("no score today")

    small, large = pair()
    await run(hybrid(small, large, score=broken, on_decision=[decisions.append]), name)
    assert (len(small.requests), len(large.requests)) == (0, 1)
    assert (decisions.reasons, decisions[0].error) == (["router_error"], "RuntimeError")


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_commits_at_its_first_chunk(name: str) -> None:
    small, large = pair()
    llm = hybrid(small, large)
    with hybrid_options(route="large"):
        args, kwargs = arguments(name)
        stream = getattr(llm, name)(*args, **kwargs)
        stream = await stream if name.startswith("a") else stream
    assert (len(small.requests), len(large.requests)) == (0, 1)
    assert [c async for c in stream] if name.startswith("a") else list(stream)
    assert (len(small.requests), len(large.requests)) == (0, 1)


@pytest.mark.parametrize("name", [name for name in with_async(ENDPOINTS) if "stream" in name])
async def test_a_failure_in_mid_stream_comes_after_what_was_said(name: str) -> None:
    small, large = pair(fail_after=2)
    stream = getattr(hybrid(small, large), name)(*arguments(name)[0])
    stream = await stream if name.startswith("a") else stream
    draw = stream.__anext__ if name.startswith("a") else stream.__next__
    for expected in ("Hello ", "to "):
        chunk = await draw() if name.startswith("a") else draw()
        assert chunk.delta == expected
    with pytest.raises(ConnectionError):
        await draw() if name.startswith("a") else draw()
    assert large.requests == []


class Closing(FakeLLM):
    """Notes that its stream was closed before its end."""

    closed: ClassVar[list[str]] = []

    def _stream(self, messages: Any, kwargs: Any) -> Any:
        try:
            yield from super()._stream(messages, kwargs)
        except GeneratorExit:
            self.closed.append(self.name)
            raise


async def test_closing_a_stream_closes_the_models() -> None:
    closed = Closing.closed
    llm = hybrid(Closing(name="small"))
    stream = llm.stream_chat(messages())
    next(stream)
    stream.close()
    assert closed == ["small"]
    astream = await llm.astream_chat(messages())
    await anext(astream)
    await astream.aclose()
    await asyncio.sleep(0.01)  # LlamaIndex leaves the innermost generator to the event loop
    assert closed == ["small"] * 2


class Silent(FakeLLM):
    """Streams nothing."""

    def _stream(self, messages: Any, kwargs: Any) -> Any:
        self._reply(messages, kwargs)
        yield from ()


@pytest.mark.parametrize("name", ["stream_chat", "astream_chat"])
async def test_an_empty_stream_is_empty(name: str) -> None:
    assert await run(hybrid(Silent(name="small")), name) == []


# -- the host's own expectations ------------------------------------------------------------------


def test_it_is_what_agents_and_programs_look_for() -> None:
    llm = hybrid()
    assert isinstance(llm, LLM)
    assert isinstance(llm, FunctionCallingLLM)
    assert llm.class_name() == "HybridLLM"


@pytest.mark.parametrize("name", with_async(("complete", "stream_complete")))
async def test_a_completion_without_a_prompt_is_a_value_error(name: str) -> None:
    call = getattr(hybrid(), name)
    with pytest.raises(ValueError, match="needs a prompt"):
        await call() if name.startswith("a") else call()


@pytest.mark.parametrize("name", ["complete", "acomplete"])
async def test_a_prompt_may_be_given_by_keyword(name: str) -> None:
    result = getattr(hybrid(), name)(prompt=QUESTION)
    answer = await result if name.startswith("a") else result
    assert answer.text == ANSWER


async def test_responses_are_of_the_hosts_types() -> None:
    llm = hybrid()
    assert isinstance(llm.chat(messages()), ChatResponse)
    assert isinstance(await llm.acomplete(QUESTION), CompletionResponse)
    assert str(llm.chat(messages())) == f"assistant: {ANSWER}"


def test_the_models_own_response_is_left_as_it_was() -> None:
    kept: list[ChatResponse] = []

    class Keeping(FakeLLM):
        def _response(self, messages: Any, kwargs: Any) -> ChatResponse:
            kept.append(super()._response(messages, kwargs))
            return kept[-1]

    answer = hybrid(Keeping(name="small")).chat(messages())
    assert kept[0].additional_kwargs == {"own": "small"}
    assert answer.additional_kwargs["own"] == "small"
    assert answer.raw == {"usage": USAGE, "model": "small"}
    assert answer.message.additional_kwargs == {}


def test_chat_prompts_keep_their_roles() -> None:
    small, large = pair()
    hybrid(small, large).predict(CHAT_PROMPT, **VARIABLES)
    assert [m.role.value for m in small.requests[0]["messages"]] == ["system", "user"]


def test_a_variable_named_like_an_option_belongs_to_the_prompt(decisions: Decisions) -> None:
    prompt = PromptTemplate("Do {task} by {route}: {query_str} {threshold} {max_quality_dropp}")
    small, large = pair()
    llm = hybrid(small, large, on_decision=[decisions.append])
    values = {"task": "sums", "route": "sea", "threshold": "low", "max_quality_dropp": "x"}
    llm.predict(prompt, query_str="how?", cost_advantage=None, **values)
    assert small.requests[0]["messages"][0].content == "Do sums by sea: how? low x"
    assert decisions[0].task is None


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_prompts_functions_run_once(streaming: bool) -> None:
    ran = []

    def context(**variables: Any) -> str:
        ran.append(variables)
        return "found"

    prompt = PromptTemplate("{context_str} {query_str}", function_mappings={"context_str": context})
    small, large = pair(context_window=50)
    llm = hybrid(small, large)
    if streaming:
        list(llm.stream(prompt, query_str="which?"))
    else:
        llm.predict(prompt, query_str="which?")
    assert len(ran) == 1


async def test_a_prompt_that_cannot_be_formatted_fails_as_the_model_fails() -> None:
    def broken(**variables: Any) -> str:
        raise LookupError("nothing retrieved")

    prompt = PromptTemplate("{context_str} {topic}", function_mappings={"context_str": broken})
    small, large = pair(context_window=50)
    with pytest.raises(LookupError, match="nothing retrieved"):
        hybrid(small, large).predict(prompt, topic="rivers")
    with pytest.raises(LookupError, match="nothing retrieved"):
        await hybrid(small, large).apredict(prompt, query_str="which?")
    assert small.requests == large.requests == []


async def test_many_calls_at_once_keep_their_decisions_apart() -> None:
    llm = hybrid(*pair(delay_s=0.001), score=lambda text: 1.0 if "even" in text else -1.0)
    texts = [f"{'even' if i % 2 == 0 else 'odd'} {i}" for i in range(20)]
    answers = await asyncio.gather(*(llm.achat(messages(text)) for text in texts))
    found = [decision_of(answer)["candidate"] for answer in answers]
    assert found == ["small", "large"] * 10


async def test_a_slow_router_does_not_hold_up_the_event_loop() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    llm = hybrid(router=fixed_router(1.0, delay_s=0.2))
    ticking = asyncio.create_task(tick())
    await llm.achat(messages())
    ticking.cancel()
    assert ticks > 3


async def test_a_router_that_hangs_is_not_waited_for(decisions: Decisions) -> None:
    llm = hybrid(
        router=fixed_router(1.0, delay_s=5),
        router_timeout_s=0.05,
        on_decision=[decisions.append],
    )
    await llm.acomplete(QUESTION)
    llm.complete(QUESTION)
    assert decisions.reasons == ["router_error"] * 2
    assert decisions[0].error == "ScoringTimeoutError"


# -- previews -------------------------------------------------------------------------------------


async def test_a_preview_calls_no_model_and_tells_no_listener(decisions: Decisions) -> None:
    small, large = pair()
    llm = hybrid(small, large, score=-1.0, on_decision=[decisions.append])
    found = [
        llm.route(QUESTION),
        llm.route(messages()),
        llm.route(PROMPT, **VARIABLES),
        await llm.aroute(QUESTION),
        await llm.aroute(PROMPT, **VARIABLES),
    ]
    assert {decision.candidate for decision in found} == {"large"}
    assert [decision.query_source for decision in found][1:3] == [
        "last_user_message",
        "prompt_variable",
    ]
    assert small.requests == large.requests == decisions == []


def test_a_preview_takes_options_and_tools() -> None:
    llm = hybrid(PlainLLM(name="small"), score=1.0)
    assert llm.route(QUESTION).candidate == "small"
    assert llm.route(QUESTION, threshold=2.0).candidate == "large"
    assert llm.route(QUESTION, route="large").reason == "forced"
    found = llm.route(QUESTION, tools=[TOOL])
    assert (found.candidate, found.reason) == ("large", "capability")
    with pytest.raises(CandidateError, match="names no candidate"):
        llm.route(QUESTION, route="nowhere")


# -- structured output and tools ------------------------------------------------------------------


@pytest.mark.parametrize("name", with_async(STRUCTURED))
@pytest.mark.parametrize("kind", [FakeLLM, PlainLLM])
async def test_a_model_fills_a_schema_in_its_own_way(name: str, kind: type[PlainLLM]) -> None:
    small = kind(name="small")
    found = await run(hybrid(small), name)
    assert found[-1] == Answer(text="words", number=3)
    assert ("tools" in small.requests[0]) == (kind is FakeLLM)


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_a_model_without_tools_is_not_chosen_for_them(
    name: str, decisions: Decisions
) -> None:
    for small in (PlainLLM(name="small"), FakeLLM(name="small", function_calling=False)):
        llm = hybrid(small, on_decision=[decisions.append])
        await run(llm, name)
        assert small.requests == []
    assert decisions.candidates == ["large"] * 2
    assert decisions.reasons == ["capability"] * 2


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_the_small_model_may_be_the_one_with_tools(name: str, decisions: Decisions) -> None:
    llm = hybrid(large=PlainLLM(name="large"), score=-1.0, on_decision=[decisions.append])
    assert llm.metadata.is_function_calling_model
    await run(llm, name)
    assert (decisions.candidates, decisions.reasons) == (["small"], ["capability"])


@pytest.mark.parametrize("name", ["predict_and_call", "apredict_and_call"])
async def test_models_without_tools_are_asked_in_text(name: str, decisions: Decisions) -> None:
    plain = PlainLLM(name="small"), FakeLLM(name="large", function_calling=False)
    for score, chosen in ((1.0, "small"), (-1.0, "large")):
        llm = hybrid(*plain, score=score, on_decision=[decisions.append])
        # The synchronous one runs a loop of its own, as LlamaIndex does.
        found = await (run(llm, name) if name[0] == "a" else _in_a_thread(llm, name))
        assert found[0].response == "6"
        assert decisions.candidates[-1] == chosen


async def _in_a_thread(llm: HybridLLM, name: str) -> list[Any]:
    return await asyncio.to_thread(lambda: asyncio.run(run(llm, name)))


@pytest.mark.parametrize("name", with_async(("chat_with_tools", "stream_chat_with_tools")))
async def test_tools_with_no_model_able_are_refused(name: str) -> None:
    llm = hybrid(PlainLLM(name="small"), PlainLLM(name="large"))
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(CandidateError, match="None of the wrapped models can call tools"):
        await run(llm, name)
    with pytest.raises(CandidateError, match="None of the wrapped models can call tools"):
        llm._prepare_chat_with_tools([TOOL], QUESTION)


def test_the_private_hook_is_served_by_a_model_that_can() -> None:
    prepared = hybrid(large=PlainLLM(name="large"))._prepare_chat_with_tools([TOOL], QUESTION)
    assert prepared["tools"][0]["function"]["name"] == "add"


async def test_a_forced_model_without_tools_says_so() -> None:
    llm = hybrid(PlainLLM(name="small"))
    with pytest.raises(CandidateError, match="PlainLLM cannot call tools"):
        llm.chat_with_tools([TOOL], QUESTION, route="small")


def test_tool_calls_are_read_by_the_model_that_made_them() -> None:
    llm = hybrid(score=lambda text: 1.0 if "small" in text else -1.0)
    for name in ("small", "large"):
        answer = llm.chat_with_tools([TOOL], f"add 3 for the {name} one")
        (call,) = llm.get_tool_calls_from_response(answer)
        assert call.tool_id.startswith(name)
        assert call.tool_kwargs == {"a": 3, "b": 3}


@pytest.mark.parametrize("outer", ["small", "large"])
@pytest.mark.parametrize("inner", ["small", "large"])
async def test_a_wrapper_may_be_wrapped(outer: str, inner: str, decisions: Decisions) -> None:
    wrapped_one = hybrid(score=1.0 if inner == "small" else -1.0, on_decision=[decisions.append])
    around = hybrid(
        wrapped_one,
        FakeLLM(name="outermost"),
        score=1.0 if outer == "small" else -1.0,
        on_decision=[decisions.append],
    )
    answer = around.chat_with_tools([TOOL], "add 3")
    (call,) = around.get_tool_calls_from_response(answer)
    assert call.tool_id.startswith("outermost" if outer == "large" else inner)
    assert decision_of(answer)["candidate"] == (
        "outermost" if outer == "large" else "hybrid(small|large)"
    )
    assert len(decisions) == (1 if outer == "large" else 2)
    assert await drawn(around.astream_chat(messages()))


class NativeLLM(FakeLLM):
    """Answers in a schema by a mode of its provider's own."""

    def structured_predict(self, output_cls: Any, prompt: Any, **given: Any) -> Any:
        given.pop("llm_kwargs", None)
        asked = prompt.format_messages(**given)
        answer = self.chat(asked, response_format=output_cls.model_json_schema())
        return output_cls(text=answer.message.content, number=1)


def test_a_providers_own_json_mode_is_kept() -> None:
    small = NativeLLM(name="small")
    found = hybrid(small).structured_predict(Answer, PROMPT, **VARIABLES)
    assert found == Answer(text=ANSWER, number=1)
    assert small.requests[0]["response_format"]["title"] == "Answer"
    assert "tools" not in small.requests[0]


def test_a_response_of_another_making_is_read_by_the_most_capable() -> None:
    small, large = pair()
    answer = large.chat_with_tools([TOOL], QUESTION)
    (call,) = hybrid(small, large).get_tool_calls_from_response(answer)
    assert call.tool_id.startswith("large")


def test_no_tool_call_is_an_error_only_where_one_is_expected() -> None:
    for llm in (hybrid(), hybrid(PlainLLM(name="small"))):
        answer = llm.chat(messages())
        assert llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False) == []
        with pytest.raises(ValueError, match="at least one tool call"):
            llm.get_tool_calls_from_response(answer)


def test_a_conversation_and_its_next_message_are_both_read(decisions: Decisions) -> None:
    small, large = pair()
    llm = hybrid(small, large, on_decision=[decisions.append], record_query=True)
    history = [
        ChatMessage(role="user", content="hello"),
        ChatMessage(role="assistant", content="hi"),
    ]
    llm.chat_with_tools([TOOL], user_msg=ChatMessage(content="add 3"), chat_history=history)
    llm.chat_with_tools([TOOL], chat_history=[*history, ChatMessage(content="add 4")])
    assert [decision.query for decision in decisions] == ["add 3", "add 4"]
    assert len(history) == 2
    assert [len(request["messages"]) for request in small.requests] == [3, 3]


async def test_streams_that_cannot_be_closed_are_read_to_their_end() -> None:
    class Drawn:
        def __init__(self) -> None:
            self.rest = iter("ab")

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> str:
            for each in self.rest:
                return each
            raise StopAsyncIteration

    assert list(primed(iter("ab"), str.upper)) == ["A", "B"]
    assert [each async for each in await aprimed(Drawn(), str.upper)] == ["A", "B"]


@pytest.mark.parametrize("name", with_async(("complete", "stream_complete")))
async def test_a_formatted_prompt_is_formatted_for_the_chosen_model_too(name: str) -> None:
    class Noting(FakeLLM):
        seen: ClassVar[list[bool]] = []

        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            self.seen.append(formatted)
            return super().complete(prompt, formatted, **kwargs)

        async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            self.seen.append(formatted)
            return await super().acomplete(prompt, formatted, **kwargs)

        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            self.seen.append(formatted)
            return super().stream_complete(prompt, formatted, **kwargs)

        async def astream_complete(self, prompt: str, formatted: bool = False, **kw: Any) -> Any:
            self.seen.append(formatted)
            return await super().astream_complete(prompt, formatted, **kw)

    call = getattr(hybrid(Noting(name="small")), name)
    result = call(QUESTION, formatted=True)
    if name.startswith("a"):
        result = await result
    if "stream" in name:
        [chunk async for chunk in result] if name.startswith("a") else list(result)
    assert Noting.seen == [True]
