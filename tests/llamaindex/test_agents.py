"""Agents: the model that may call tools is asked, and it stays the one until it has answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.llms import ChatMessage, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.memory.memory import DEFAULT_MEMORY_BLOCKS_TEMPLATE
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from shared_router import hybrid_options, routing_query
from tests.llamaindex.fakes import (
    ANSWER,
    Decisions,
    FakeLLM,
    PlainLLM,
    RecordingScorer,
    hybrid,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llamaindex_hybrid import HybridLLM

QUESTION = "How long is 'rain'?"
ANOTHER = "Count the letters of the word for frozen water."
TOOLS_OF = {
    "both": (FakeLLM, FakeLLM),
    "only large": (PlainLLM, FakeLLM),
    "only small": (FakeLLM, PlainLLM),
    "neither": (PlainLLM, PlainLLM),
}


def length(word: str) -> int:
    """Count the letters of a word."""
    return len(word)


def wavering() -> Callable[[str], float]:
    """Score first for the small model, then for the large one, and so on."""
    scores: Iterator[float] = iter([1.0, -1.0] * 50)
    return lambda text: next(scores)


def wrapped(who: str, decisions: Decisions, **options: Any) -> HybridLLM:
    small, large = (
        kind(name=name) for kind, name in zip(TOOLS_OF[who], ("small", "large"), strict=True)
    )
    given: dict[str, Any] = {"score": wavering(), "record_query": True, **options}
    return hybrid(small, large, on_decision=[decisions.append], **given)


async def finished(handler: Any) -> tuple[Any, list[Any]]:
    """Read a run's events to their end."""
    events = [event async for event in handler.stream_events()]
    return await handler, events


def called(events: list[Any]) -> list[str]:
    return [event.tool_name for event in events if isinstance(event, ToolCallResult)]


# -- FunctionAgent --------------------------------------------------------------------------------


async def test_a_follow_up_is_scored_with_its_question() -> None:
    scorer = RecordingScorer()
    agent = FunctionAgent(tools=[length], llm=hybrid(score=scorer))
    memory = ChatMemoryBuffer.from_defaults(token_limit=3_000)
    for text in ("Prove the theorem of Liouville.", "why?", "and the last step?"):
        await agent.run(text, memory=memory)
    assert scorer.texts == ["Prove the theorem of Liouville."] * 3


def test_what_a_memory_puts_before_a_question_is_cut_away() -> None:
    blocks = [("core", [TextBlock(text="The user is Ann, who likes proofs.")])]
    (memory,) = DEFAULT_MEMORY_BLOCKS_TEMPLATE.format_messages(memory_blocks=blocks)
    scorer = RecordingScorer()
    said = ChatMessage(role="user", blocks=[*memory.blocks, TextBlock(text=QUESTION)])
    hybrid(score=scorer).chat([said])
    assert scorer.texts == [QUESTION]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("who", ["both", "only large", "only small"])
async def test_a_function_agent(who: str, streaming: bool, decisions: Decisions) -> None:
    llm = wrapped(who, decisions)
    agent = FunctionAgent(tools=[length], llm=llm, streaming=streaming)
    answer, events = await finished(agent.run(QUESTION))
    assert str(answer) == ANSWER
    assert called(events) == ["length"]
    assert events[-1] is not None
    model = "large" if who == "only large" else "small"
    assert decisions.candidates == [model] * 2
    reason = "score" if who == "both" else "capability"
    assert decisions.reasons == [reason, "sticky" if who == "both" else "capability"]
    assert [decision.query for decision in decisions] == [QUESTION] * 2


async def test_a_function_agent_with_no_model_able(decisions: Decisions) -> None:
    agent = FunctionAgent(tools=[length], llm=wrapped("neither", decisions))
    with pytest.raises(ValueError, match="LLM must be a FunctionCallingLLM"):
        await agent.run(QUESTION)


async def test_a_question_is_scored_once_a_turn(
    scorer: RecordingScorer, decisions: Decisions
) -> None:
    llm = wrapped("both", decisions, score=scorer)
    memory = ChatMemoryBuffer.from_defaults(token_limit=3_000)
    agent = FunctionAgent(tools=[length], llm=llm, system_prompt="Be brief.")
    await agent.run(QUESTION, memory=memory)
    await agent.run(ANOTHER, memory=memory)
    assert scorer.texts == [QUESTION, ANOTHER]
    assert decisions.reasons == ["score", "sticky"] * 2


async def test_a_later_turn_may_go_elsewhere(decisions: Decisions) -> None:
    llm = wrapped("both", decisions, score=lambda text: 1.0 if "rain" in text else -1.0)
    memory = ChatMemoryBuffer.from_defaults(token_limit=3_000)
    agent = FunctionAgent(tools=[length], llm=llm)
    await agent.run(QUESTION, memory=memory)
    await agent.run(ANOTHER, memory=memory)
    assert decisions.candidates == ["small", "small", "large", "large"]


async def test_several_tools_in_a_row_stay_with_one_model(decisions: Decisions) -> None:
    class Eager(FakeLLM):
        def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            first = len(self.requests) < 3
            return super()._prepare_chat_with_tools(*args, **{**kwargs, "tool_required": first})

    llm = hybrid(
        Eager(name="small"),
        Eager(name="large"),
        score=wavering(),
        on_decision=[decisions.append],
    )
    answer, events = await finished(FunctionAgent(tools=[length], llm=llm).run(QUESTION))
    assert str(answer) == ANSWER
    assert called(events) == ["length"] * 3
    assert decisions.candidates == ["small"] * 4
    assert decisions.reasons == ["score"] + ["sticky"] * 3


@pytest.mark.parametrize("taken_up", [False, True])
async def test_tools_are_answered_to_the_model_that_asked_for_them(
    taken_up: bool, decisions: Decisions
) -> None:
    llm = wrapped("both", decisions, score=1.0)
    tool = FunctionTool.from_defaults(length)
    found = ChatMessage(role="tool", content="4")
    step = [ChatMessage(role="user", content=QUESTION)]
    step += [(await llm.achat_with_tools([tool], chat_history=step)).message, found]
    if taken_up:
        forced = await llm.achat_with_tools([tool], chat_history=step, route="large")
        step += [forced.message, found]
    await llm.achat_with_tools([tool], chat_history=step)
    assert decisions.reasons[-1] == "sticky"
    assert decisions.candidates[-1] == ("large" if taken_up else "small")


async def test_two_users_asking_the_same_under_other_dials_keep_their_models(
    decisions: Decisions,
) -> None:
    llm = wrapped("both", decisions, score=1.0)

    async def user(threshold: float) -> None:
        with hybrid_options(threshold=threshold):
            await FunctionAgent(tools=[length], llm=llm).run(QUESTION)

    await asyncio.gather(*(user(2.0 if i % 2 else 0.0) for i in range(6)))
    for decision in decisions:
        assert decision.candidate == ("large" if decision.threshold == 2.0 else "small")
    assert decisions.reasons.count("sticky") == 6


async def test_a_stated_question_is_the_one_that_is_scored(
    scorer: RecordingScorer, decisions: Decisions
) -> None:
    agent = FunctionAgent(tools=[length], llm=wrapped("both", decisions, score=scorer))
    with routing_query("the real question"):
        await agent.run("harness text around the real question")
    assert scorer.texts == ["the real question"]
    assert decisions.sources[0] == "explicit"


async def test_state_around_a_message_is_not_scored(
    scorer: RecordingScorer, decisions: Decisions
) -> None:
    llm = wrapped("both", decisions, score=scorer)
    agent = FunctionAgent(tools=[length], llm=llm, initial_state={"mood": "x " * 2_000})
    await agent.run(QUESTION)
    assert scorer.texts == [QUESTION]
    assert decisions.reasons == ["score", "sticky"]


class Length(BaseModel):
    """How long a word is."""

    word: str
    letters: int


async def test_a_structured_answer_is_routed_by_the_question(
    scorer: RecordingScorer, decisions: Decisions
) -> None:
    llm = wrapped("both", decisions, score=scorer)
    answer = await FunctionAgent(tools=[length], llm=llm, output_cls=Length).run(QUESTION)
    assert answer.structured_response is not None
    assert set(scorer.texts) == {QUESTION}
    assert decisions.candidates == ["small"] * 3


async def test_deltas_reach_the_events_stream_once(decisions: Decisions) -> None:
    agent = FunctionAgent(tools=[length], llm=wrapped("both", decisions))
    _, events = await finished(agent.run(QUESTION))
    assert "".join(e.delta for e in events if isinstance(e, AgentStream)) == ANSWER


async def test_what_a_model_thinks_reaches_the_events_stream(decisions: Decisions) -> None:
    class Thinking(FakeLLM):
        def _stream(self, messages: Any, kwargs: Any) -> Iterator[Any]:
            for chunk in super()._stream(messages, kwargs):
                chunk.additional_kwargs["thinking_delta"] = "hm "
                yield chunk

    llm = hybrid(Thinking(name="small"), on_decision=[decisions.append])
    _, events = await finished(FunctionAgent(tools=[length], llm=llm).run(QUESTION))
    thoughts = {event.thinking_delta for event in events if isinstance(event, AgentStream)}
    assert thoughts == {"hm "}


# -- ReActAgent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("who", list(TOOLS_OF))
async def test_a_react_agent(who: str, streaming: bool, decisions: Decisions) -> None:
    agent = ReActAgent(tools=[length], llm=wrapped(who, decisions), streaming=streaming)
    answer, events = await finished(agent.run(QUESTION))
    assert str(answer) == "It is found."
    assert called(events) == ["length"]
    assert decisions.candidates == ["small"] * 2
    assert decisions.reasons == ["score", "sticky"]
    assert [decision.query for decision in decisions] == [QUESTION] * 2


async def test_a_react_agents_retries_are_no_new_question(
    scorer: RecordingScorer, decisions: Decisions
) -> None:
    said = ["Thought: I wonder.", "", "Thought: done.\nAnswer: Four."]
    llm = hybrid(
        *(FakeLLM(name=name, answer=said) for name in ("small", "large")),
        score=scorer,
        on_decision=[decisions.append],
    )
    agent = ReActAgent(tools=[length], llm=llm, streaming=False)
    answer = await agent.run(QUESTION)
    assert str(answer) == "Four."
    assert set(scorer.texts) == {QUESTION}
    assert decisions.candidates == ["small"] * 3
    assert decisions.reasons == ["score", "sticky", "sticky"]


# -- CodeActAgent ---------------------------------------------------------------------------------


def coding(question: str) -> str:
    if question.startswith("Result of executing"):
        return "It has four letters."
    return "I count.\n<execute>\nprint(len('rain'))\n</execute>"


def execute(code: str) -> str:
    """Run some code."""
    assert "len(" in code
    return "4"


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("who", list(TOOLS_OF))
async def test_a_code_agent(who: str, streaming: bool, decisions: Decisions) -> None:
    llm = wrapped(who, decisions)
    for candidate in llm.engine.candidates:
        candidate.model.answer = coding
    agent = CodeActAgent(code_execute_fn=execute, llm=llm, streaming=streaming)
    answer, events = await finished(agent.run(QUESTION))
    assert str(answer) == "It has four letters."
    assert called(events) == ["execute"]
    assert decisions.candidates == ["small"] * 2
    assert decisions.reasons == ["score", "sticky"]


# -- AgentWorkflow --------------------------------------------------------------------------------


@pytest.mark.parametrize("who", list(TOOLS_OF))
async def test_a_workflow_takes_the_agent_that_fits(who: str, decisions: Decisions) -> None:
    llm = wrapped(who, decisions)
    workflow = AgentWorkflow.from_tools_or_functions([length], llm=llm)
    kind = ReActAgent if who == "neither" else FunctionAgent
    (agent,) = workflow.agents.values()
    assert isinstance(agent, kind)
    answer, events = await finished(workflow.run(QUESTION))
    assert called(events) == ["length"]
    assert str(answer) == ("It is found." if who == "neither" else ANSWER)
    assert len(set(decisions.candidates)) == 1


class Handing(FakeLLM):
    """Hands over to another agent at its first call, then answers."""

    def _prepare_chat_with_tools(self, tools: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = super()._prepare_chat_with_tools(tools, *args, **kwargs)
        names = [tool["function"]["name"] for tool in found["tools"]]
        answered = any(message.role.value == "tool" for message in found["messages"])
        return {**found, "tool_choice": "none" if answered else names[-1]}

    def _reply(self, messages: Any, kwargs: Any) -> ChatMessage:
        if kwargs.get("tool_choice") == "none":
            return super()._reply(messages, {**kwargs, "tools": []})
        message = super()._reply(messages, kwargs)
        for block in message.blocks:
            block.tool_kwargs = '{"to_agent": "second", "reason": "it knows"}'  # type: ignore[union-attr]
        return message


async def test_a_handoff_stays_with_the_model(decisions: Decisions) -> None:
    llm = hybrid(
        Handing(name="small"),
        Handing(name="large"),
        score=wavering(),
        on_decision=[decisions.append],
    )
    agents: list[Any] = [
        FunctionAgent(
            name=name,
            description=f"The {name} one.",
            system_prompt=f"You are the {name} one.",
            tools=[length],
            llm=llm,
            can_handoff_to=["second"] if name == "first" else [],
        )
        for name in ("first", "second")
    ]
    workflow = AgentWorkflow(agents=agents, root_agent="first")
    answer, events = await finished(workflow.run(QUESTION))
    assert called(events) == ["handoff"]
    assert answer.current_agent_name == "second"
    assert decisions.candidates == ["small"] * 2
    assert decisions.reasons == ["score", "sticky"]


async def test_runs_at_once_keep_apart(decisions: Decisions) -> None:
    llm = hybrid(
        *pair(delay_s=0.001),
        score=lambda text: 1.0 if "even" in text else -1.0,
        on_decision=[decisions.append],
        record_query=True,
    )
    agent = FunctionAgent(tools=[length], llm=llm)
    texts = [f"How long is '{'even' if i % 2 == 0 else 'odd'}{i}'?" for i in range(10)]
    answers = await asyncio.gather(*(agent.run(text) for text in texts))
    assert {str(answer) for answer in answers} == {ANSWER}
    for decision in decisions:
        assert decision.candidate == ("small" if "even" in (decision.query or "") else "large")
    assert decisions.reasons.count("sticky") == 10
