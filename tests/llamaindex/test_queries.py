"""Which text a call is routed by: the order of the sources, odd messages, kinds without a query."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.chat_engine.condense_plus_context import DEFAULT_CONDENSE_PROMPT_TEMPLATE
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate, PromptType
from llama_index.core.prompts.default_prompts import (
    DEFAULT_HYDE_PROMPT,
    DEFAULT_KEYWORD_EXTRACT_TEMPLATE,
    DEFAULT_KG_TRIPLET_EXTRACT_PROMPT,
    DEFAULT_QUERY_KEYWORD_EXTRACT_TEMPLATE,
    DEFAULT_REFINE_PROMPT,
    DEFAULT_SUMMARY_PROMPT,
    DEFAULT_TEXT_QA_PROMPT,
    DEFAULT_TREE_SUMMARIZE_PROMPT,
)
from llama_index.core.retrievers.fusion_retriever import QUERY_GEN_PROMPT
from llama_index.core.schema import QueryBundle

from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.kinds import KINDS, kind_of_prompt, kind_of_text
from llamaindex_hybrid.queries import MOST_LOOKED_AT, user_text
from shared_router import Candidate, Router, hybrid_options, routing_query
from shared_router.asking.questions import GuessedQueryWarning
from shared_router.testing import fixed_router
from tests.llamaindex.fakes import Decisions, FakeLLM, RecordingScorer, decision_of, hybrid
from tests.llamaindex.operations import PROMPT, VARIABLES

QUIET = "ignore::shared_router.asking.questions.GuessedQueryWarning"


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def scored(messages: Any, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """Chat, and return the texts scored and the decision."""
    scorer = RecordingScorer()
    answer = hybrid(score=scorer, **options).chat(messages)
    return scorer.texts, decision_of(answer)


# -- the order of the sources ---------------------------------------------------------------------


def test_a_stated_query_wins_over_every_other_source(
    scorer: RecordingScorer, decisions: Decisions
) -> None:
    llm = hybrid(score=scorer, on_decision=[decisions.append])
    with routing_query("stated", task="qa"), instrument_tags({"routing_query": "tagged"}):
        llm.predict(PROMPT, **VARIABLES)
    assert scorer.texts == ["stated"]
    assert (decisions[0].query_source, decisions[0].task) == ("explicit", "qa")


def test_a_tag_states_the_query(scorer: RecordingScorer, decisions: Decisions) -> None:
    llm = hybrid(score=scorer, on_decision=[decisions.append])
    with instrument_tags({"routing_query": "tagged"}):
        llm.predict(PROMPT, **VARIABLES)
    with instrument_tags({"routing_query": 42}):
        llm.predict(PROMPT, **VARIABLES)
    assert scorer.texts == ["tagged", VARIABLES["query_str"]]
    assert decisions.sources == ["explicit", "prompt_variable"]


@pytest.mark.parametrize("name", ["query_str", "question", "query"])
@pytest.mark.parametrize("partial", [False, True])
def test_a_prompts_variable_is_the_query(name: str, partial: bool, scorer: RecordingScorer) -> None:
    prompt = PromptTemplate(f"Text. {{{name}}} More: {{context_str}}")
    llm = hybrid(score=scorer)
    if partial:
        llm.predict(prompt.partial_format(**{name: "which?"}), context_str="a " * 900)
    else:
        llm.predict(prompt, **{name: "which?"}, context_str="a " * 900)
    assert scorer.texts == ["which?"]


def test_a_calls_variable_goes_before_the_prompts_own(scorer: RecordingScorer) -> None:
    prompt = PromptTemplate("{query_str}").partial_format(query_str="old")
    hybrid(score=scorer).predict(prompt, query_str="new")
    assert scorer.texts == ["new"]


def test_variables_of_ones_own_can_be_named(scorer: RecordingScorer) -> None:
    llm = hybrid(score=scorer, query_variables=("wish", "query_str"))
    llm.predict(PromptTemplate("{context_str} {wish}"), context_str="a " * 900, wish="which?")
    assert scorer.texts == ["which?"]


def test_a_query_bundle_is_read(scorer: RecordingScorer) -> None:
    hybrid(score=scorer).predict(PROMPT, query_str=QueryBundle("which?"), context_str="x")
    assert scorer.texts == ["which?"]


@pytest.mark.parametrize("empty", ["", "  ", None, 42])
def test_an_empty_variable_is_passed_over(empty: Any, scorer: RecordingScorer) -> None:
    prompt = PromptTemplate("{query_str} What is {question}?")
    hybrid(score=scorer).predict(prompt, query_str=empty, question="a river")
    assert scorer.texts == ["a river"]


def test_a_prompt_without_a_question_is_what_a_user_said(scorer: RecordingScorer) -> None:
    llm = hybrid(score=scorer)
    llm.predict(PromptTemplate("What is the capital of {country}?"), country="Peru")
    assert scorer.texts == ["What is the capital of Peru?"]


def test_the_last_user_message_is_the_plain_case() -> None:
    history = [user("first"), ChatMessage(role="assistant", content="yes"), user("second")]
    texts, decision = scored(history)
    assert texts == ["second"]
    assert decision["query_source"] == "last_user_message"


async def test_the_query_follows_tasks_and_threads(scorer: RecordingScorer) -> None:
    llm = hybrid(score=scorer)
    with routing_query("stated"):
        await asyncio.gather(llm.acomplete("a"), asyncio.to_thread(llm.complete, "b"))
    assert scorer.texts == ["stated"] * 2


# -- messages -------------------------------------------------------------------------------------


NOISE = [
    "Observation: 42",
    "Result of executing the code given:\n\n42",
    "Error while parsing the output: no action",
    "FAILURE: Your previous response was empty.\nTry again.",
]


@pytest.mark.parametrize("noise", NOISE)
def test_an_agents_harness_is_no_user(noise: str) -> None:
    said = [user("which?"), ChatMessage(role="assistant", content="I look"), user(noise)]
    assert scored(said)[0] == ["which?"]


def test_images_have_no_text() -> None:
    picture = ImageBlock(url="http://127.0.0.1/a.png")
    both = ChatMessage(role="user", blocks=[picture, TextBlock(text="what is it?")])
    assert scored([both])[0] == ["what is it?"]
    alone = ChatMessage(role="user", blocks=[picture])
    texts, decision = scored([alone])
    assert (texts, decision["reason"]) == ([], "no_query")


def test_a_transcript_is_read_for_its_user() -> None:
    from llama_index.core.agent.utils import messages_to_xml_format

    talk = [
        ChatMessage(role="system", content="You are <user> friendly."),
        user("first"),
        ChatMessage(role="assistant", content="yes"),
        user("second\n\nwith more"),
        ChatMessage(role="assistant", content="no"),
        user("Observation: 3"),
    ]
    texts, _ = scored(messages_to_xml_format(talk))
    assert texts == ["second\n\nwith more"]
    assert scored([user("<current_conversation> of nothing")])[0] == [
        "<current_conversation> of nothing"
    ]


@pytest.mark.filterwarnings(QUIET)
def test_a_long_message_is_narrowed_to_its_question(calibrated: Router) -> None:
    long = "Copenhagen has many bicycles. " * 300 + "\n\nQuestion: Which city is it?"
    decision = hybrid(router=calibrated, record_query=True).route([user(long)])
    assert (decision.query, decision.query_source) == ("Which city is it?", "guessed")
    assert hybrid(router=calibrated).route("short?").query_source == "last_user_message"


def test_a_guess_is_warned_of_in_this_hosts_words(
    monkeypatch: pytest.MonkeyPatch, calibrated: Router
) -> None:
    from shared_router.asking import questions

    monkeypatch.setattr(questions, "_warned", False)
    with pytest.warns(GuessedQueryWarning, match=r"query_str, or track_queries\(\)"):
        hybrid(router=calibrated).route("many words " * 1_000)


def test_messages_that_are_none_are_the_models_to_refuse(caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = [{"role": "user", "content": "my secret"}]
    with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="dict"):
        hybrid().chat(wrong)
    pair = [Candidate(name, FakeLLM(name=name), context_window=99) for name in ("small", "large")]
    with pytest.raises(Exception, match="dict"):
        HybridLLM(candidates=pair, router=fixed_router(1.0)).chat(wrong)
    assert "secret" not in caplog.text


# -- turns ----------------------------------------------------------------------------------------


def assistant(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


def tool(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.TOOL, content=text)


class Counted(ChatMessage):
    """Counts how often it is read."""

    @property
    def content(self) -> str | None:
        reads.append(self)
        return super().content


reads: list[ChatMessage] = []


async def test_a_message_is_read_a_fixed_number_of_times() -> None:
    reads.clear()
    history = [Counted(role="user", content=text) for text in ("a", "Observation: b", "c")]
    await hybrid().aroute([*history, assistant("d"), tool("e")])
    assert len(reads) == len(history)


# -- transcripts ----------------------------------------------------------------------------------


def transcript(*texts: str) -> str:
    turns = (f"\t<user>\n\t\t<message>{text}</message>\n\t</user>\n" for text in texts)
    return "<current_conversation>\n" + "".join(turns)


NOISE = ["Observation: a"] * (MOST_LOOKED_AT - 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (transcript("first", "last", "Observation: a"), "last"),
        (transcript("last", *NOISE), "last"),
        (transcript("one</message>\n\t\t<message>two"), "one\ntwo"),
        (transcript("first") + "\t</user>\n", "first"),
        (transcript("first") + "\t<user>\n\t\t<message>half", "first"),
        (transcript("a\t<user>\nb"), "a\t<user>\nb"),
    ],
)
def test_the_last_words_of_a_transcript_are_the_users(text: str, found: str) -> None:
    assert user_text(user(text)) == found


def test_of_a_transcript_a_fixed_number_of_turns_is_looked_at() -> None:
    text = transcript("asked", "Observation: a", *NOISE)
    assert user_text(user(text)) == text


# -- kinds of calls without a query ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (DEFAULT_HYDE_PROMPT, "rewrite"),
        (DEFAULT_SUMMARY_PROMPT, "summarize"),
        (DEFAULT_KEYWORD_EXTRACT_TEMPLATE, "extract"),
        (DEFAULT_KG_TRIPLET_EXTRACT_PROMPT, "extract"),
        (PromptTemplate("Give {n} keywords of {context_str}"), "extract"),
        (PromptTemplate("Tell of {topic}"), None),
        (PromptTemplate("{text}", prompt_type=PromptType.SCHEMA_EXTRACT), "extract"),
    ],
)
def test_a_prompt_no_user_asked_for_is_recognised(prompt: Any, kind: str | None) -> None:
    assert kind_of_prompt(prompt) == kind


@pytest.mark.parametrize(
    "prompt",
    [
        DEFAULT_TEXT_QA_PROMPT,
        DEFAULT_REFINE_PROMPT,
        DEFAULT_TREE_SUMMARIZE_PROMPT,
        DEFAULT_QUERY_KEYWORD_EXTRACT_TEMPLATE,
    ],
)
def test_a_prompt_with_a_question_has_one_whatever_its_type(prompt: Any, decisions: Any) -> None:
    llm = hybrid(on_decision=[decisions.append])
    given = dict.fromkeys(prompt.template_vars, "x")
    llm.predict(prompt, **given)
    assert decisions.sources == ["prompt_variable"]


def test_formatted_prompts_of_llamaindexs_own_are_recognised() -> None:
    condense = DEFAULT_CONDENSE_PROMPT_TEMPLATE.format(chat_history="a {b}", question="which?")
    assert kind_of_text(condense) == "condense"
    assert kind_of_text(QUERY_GEN_PROMPT.format(num_queries=3, query="which?")) == "rewrite"
    assert kind_of_text("What is a condense prompt?") is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_goes_where_it_is_told(kind: Any, decisions: Decisions) -> None:
    calls = {
        "extract": lambda llm: llm.predict(PromptTemplate("{context_str}"), context_str="a text"),
        "summarize": lambda llm: llm.predict(DEFAULT_SUMMARY_PROMPT, context_str="a text"),
        "condense": lambda llm: llm.complete(
            DEFAULT_CONDENSE_PROMPT_TEMPLATE.format(chat_history="a", question="b")
        ),
        "rewrite": lambda llm: llm.predict(DEFAULT_HYDE_PROMPT, context_str="which?"),
        "other": lambda llm: llm.complete(" "),
    }
    llm = hybrid(on_decision=[decisions.append], no_query={kind: "small"})
    for call in calls.values():
        call(llm)
    found = dict(zip(calls, decisions.candidates, strict=True))
    assert found == {each: "small" if each == kind else "large" for each in KINDS}
    assert set(decisions.reasons) == {"no_query"}


def test_a_stated_query_makes_any_call_a_users(scorer: RecordingScorer) -> None:
    llm = hybrid(score=scorer, no_query={"rewrite": "large"})
    with routing_query("which?"):
        llm.predict(DEFAULT_HYDE_PROMPT, context_str="which?")
    assert scorer.texts == ["which?"]


def test_other_rules_still_hold_without_a_query(decisions: Decisions) -> None:
    llm = hybrid(on_decision=[decisions.append], no_query={"extract": "small"})
    with hybrid_options(route="large"):
        llm.predict(PromptTemplate("{context_str}"), context_str="a text")
    assert (decisions.candidates, decisions.reasons) == (["large"], ["forced"])
