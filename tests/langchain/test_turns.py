"""Conversations in LangChain and LangGraph: a follow-up is scored with what it refers to."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybrid import QueryFromPrompt
from shared_router import routing_query
from tests.langchain.doubles import RecordingScorer, decision_of, hybrid

HARD = "a hard proof please"
FOLLOW_UPS = ["yes", "go on", "why?", "make it shorter"]


def test_a_thread_with_a_checkpointer() -> None:
    scorer = RecordingScorer()
    agent = create_agent(hybrid(scorer), [], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    for text in [HARD, *FOLLOW_UPS, "fix the bug you mentioned"]:
        agent.invoke({"messages": [HumanMessage(text)]}, thread)
    with_words = f"{HARD}\nfix the bug you mentioned"
    assert scorer.texts == [HARD] * 5 + [with_words]


@pytest.mark.parametrize("text", FOLLOW_UPS)
def test_a_question_found_in_a_prompt_with_a_history(text: str) -> None:
    prompt = ChatPromptTemplate(
        [("system", "Be kind."), MessagesPlaceholder("history"), ("human", "Answer: {question}")]
    )
    scorer = RecordingScorer()
    chain = prompt | hybrid(scorer, query_extractor=QueryFromPrompt(prompt, "question"))
    history = [HumanMessage(HARD), AIMessage("So.")]
    told = decision_of(chain.invoke({"history": history, "question": text}))
    assert (scorer.texts, told["query_source"]) == ([HARD], "conversation")
    told = decision_of(chain.invoke({"history": [], "question": text}))
    assert (scorer.texts[1:], told["query_source"]) == ([text], "prompt_variable")


def test_what_the_user_states_is_scored_as_it_is() -> None:
    scorer = RecordingScorer()
    said = [HumanMessage(HARD), AIMessage("So."), HumanMessage("yes")]
    with routing_query("yes"):
        hybrid(scorer).invoke(said)
    hybrid(scorer, query_extractor=lambda _: "yes").invoke(said)
    assert scorer.texts == ["yes", "yes"]
