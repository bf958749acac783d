"""Which text is scored: the order of the sources, noise, odd content and long prompts."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate

from langchain_hybrid import QueryFromPrompt
from shared_router import Router, routing_query
from shared_router.asking import questions
from shared_router.asking.questions import GuessedQueryWarning, final_question
from tests.langchain.doubles import RecordingScorer, decision_of, hybrid

if TYPE_CHECKING:
    from shared_router import RoutingDecision

PROMPT = ChatPromptTemplate([("human", "Context: {context}\n\nQuestion: {question}")])
FORMATTED = PROMPT.format_messages(context="a text", question="from the prompt?")
EXTRACTOR = QueryFromPrompt(PROMPT, "question")
PARAGRAPH = "Copenhagen has 660,000 inhabitants and many bicycles. " * 60


def scored(messages: Any, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """Call a hybrid model; returns the texts scored and the decision."""
    scorer = RecordingScorer()
    answer = hybrid(scorer, **options).invoke(messages)
    return scorer.texts, decision_of(answer)


@pytest.fixture
def quiet_guess() -> Any:
    """Let a guess warn without failing the test; the once-ness has a test of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuessedQueryWarning)
        yield


# -- the order of the sources ---------------------------------------------------------------------


def test_an_explicit_query_wins_over_every_other_source() -> None:
    with routing_query("stated", task="qa"):
        texts, decision = scored(FORMATTED, query_extractor=[lambda _: "extracted", EXTRACTOR])
    assert texts == ["stated"]
    assert (decision["query_source"], decision["task"]) == ("explicit", "qa")


def test_a_prompt_variable_wins_over_an_extractor_given_before_it() -> None:
    texts, decision = scored(FORMATTED, query_extractor=[lambda _: "extracted", EXTRACTOR])
    assert texts == ["from the prompt?"]
    assert decision["query_source"] == "prompt_variable"


def test_an_extractor_wins_over_the_last_human_message() -> None:
    texts, decision = scored(FORMATTED, query_extractor=lambda messages: messages[-1].type)
    assert texts == ["human"]
    assert decision["query_source"] == "extractor"


def test_the_last_human_message_is_the_plain_case() -> None:
    chat = [SystemMessage("Be kind."), HumanMessage("first"), AIMessage("ok"), HumanMessage("last")]
    texts, decision = scored(chat)
    assert texts == ["last"]
    assert decision["query_source"] == "last_user_message"
    assert decision["query_length"] == 4
    assert decision["query"] is None


@pytest.mark.parametrize("value", ["a string", [("human", "a string")], HumanMessage("a string")])
def test_every_form_of_input_is_read(value: Any) -> None:
    value = [value] if isinstance(value, HumanMessage) else value
    assert scored(value)[0] == ["a string"]


def test_a_prompt_that_does_not_fit_is_passed_over() -> None:
    texts, decision = scored("another prompt", query_extractor=EXTRACTOR)
    assert texts == ["another prompt"]
    assert decision["query_source"] == "last_user_message"


@pytest.mark.parametrize("nothing", [None, "", "  \n ", 42, ["a list"]])
def test_an_extractor_that_returns_no_text_is_passed_over(nothing: Any) -> None:
    texts, decision = scored("hello", query_extractor=lambda _: nothing)
    assert texts == ["hello"]
    assert decision["query_source"] == "last_user_message"


def test_an_extractor_that_raises_is_passed_over_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(messages: Any) -> str:
        raise KeyError(f"secret {messages}")

    texts, _ = scored("hello", query_extractor=[broken, lambda _: "second"])
    assert texts == ["second"]
    assert "query_extractor raised KeyError" in caplog.text
    assert "secret" not in caplog.text


def test_the_text_is_recorded_only_when_asked() -> None:
    told: list[RoutingDecision] = []
    _, carried = scored("hello", record_query=True, on_decision=[told.append])
    assert [decision.query for decision in told] == ["hello"]
    assert "hello" not in str(carried)
    assert "hello" not in repr(scored("hello")[1])


# -- noise ----------------------------------------------------------------------------------------

CALL = AIMessage("", tool_calls=[{"name": "look_up", "args": {}, "id": "1"}])


@pytest.mark.parametrize(
    "noise",
    [
        [CALL, ToolMessage("42 rows", tool_call_id="1")],
        [AIMessage("Action: look_up"), HumanMessage("Observation: 42 rows")],
        [AIMessage("Action: look_up"), HumanMessage("\n observation: 42 rows")],
        [AIMessage("..."), HumanMessage("<tool_response>\n42 rows\n</tool_response>")],
        [CALL, HumanMessage([{"type": "tool_result", "tool_use_id": "1", "content": "42 rows"}])],
        [HumanMessage("   ")],
        [HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}])],
    ],
    ids=["tool message", "observation", "indented", "response", "tool_result", "blank", "image"],
)
def test_tool_noise_is_no_question(noise: list[Any]) -> None:
    texts, decision = scored([HumanMessage("how many rows?"), *noise])
    assert texts == ["how many rows?"]
    assert decision["query_source"] == "last_user_message"


def test_the_text_blocks_of_a_message_are_joined() -> None:
    parts: list[Any] = [
        "look:",
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "text", "text": "what is in the picture?"},
    ]
    assert scored([HumanMessage(parts)])[0] == ["look:\nwhat is in the picture?"]


# -- nothing to score -----------------------------------------------------------------------------

IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
EMPTY: list[Any] = [
    [],
    "",
    " \n\t ",
    [HumanMessage("")],
    [HumanMessage([])],
    [HumanMessage([IMAGE])],
    [HumanMessage([{"type": "text", "text": ""}])],
    [HumanMessage([{"type": "text"}])],
    [SystemMessage("Only a system message.")],
    [HumanMessage("Observation: nothing else")],
]


@pytest.mark.parametrize("messages", EMPTY, ids=repr)
async def test_without_text_the_reference_answers(messages: Any) -> None:
    scorer = RecordingScorer()
    model = hybrid(scorer)
    answers = [model.invoke(messages), await model.ainvoke(messages)]
    for answer in answers:
        found = decision_of(answer)
        assert answer.content == "from large"
        assert (found["reason"], found["query_source"]) == ("no_query", "none")
        assert found["scores"] is None
    assert scorer.texts == []


@pytest.mark.parametrize("blank", ["", " \n "])
def test_a_blank_explicit_query_goes_to_the_reference(blank: str) -> None:
    with routing_query(blank):
        texts, decision = scored("a real message")
    assert texts == []
    assert (decision["reason"], decision["candidate"]) == ("no_query", "large")


@pytest.mark.parametrize("odd", ["\ud800 alone", "\x00", "🧑‍🚀" * 50, "\u202e right to left"])
def test_odd_characters_never_break_a_chain(
    odd: str, calibrated: Router, quiet_guess: None
) -> None:
    real = hybrid(router=calibrated)
    assert real.invoke(odd).content in {"from small", "from large"}
    assert real.invoke(odd * 400).content in {"from small", "from large"}


# -- long messages --------------------------------------------------------------------------------


def long_prompt(question: str = "Which city has many bicycles?") -> str:
    return f"Use the context.\n\n{PARAGRAPH}\n\nQuestion: {question}\nHelpful Answer:"


def test_a_long_message_is_scored_by_its_question(quiet_guess: None) -> None:
    texts, decision = scored(long_prompt())
    assert texts == ["Which city has many bicycles?"]
    assert decision["query_source"] == "guessed"


def test_the_length_is_counted_by_the_routers_own_tokenizer(
    calibrated: Router, quiet_guess: None
) -> None:
    tokens = calibrated.scorer.tokens  # type: ignore[attr-defined]
    fits = "a " * (tokens.max_tokens - 2)
    model = hybrid(router=calibrated)
    assert model.route(fits).query_source == "last_user_message"
    assert model.route(f"{fits} a").query_source == "guessed"


def test_a_long_message_is_no_guess_where_the_question_is_stated() -> None:
    with routing_query("Which city?"):
        texts, decision = scored(long_prompt())
    assert texts == ["Which city?"]
    assert decision["query_source"] == "explicit"


def test_a_guess_warns_once_per_process() -> None:
    script = """
        import asyncio, warnings
        from tests.langchain.doubles import hybrid
        from shared_router.asking.questions import GuessedQueryWarning

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            models = hybrid(), hybrid()
            text = "many words " * 1000 + "\\n\\nQuestion: Why?"
            for model in models:
                model.invoke(text)
                model.route(text)
            asyncio.run(models[0].ainvoke(text))
        found = [w for w in caught if w.category is GuessedQueryWarning]
        assert len(found) == 1, caught
        assert "with_routing_query" in str(found[0].message)
        assert "many words" not in str(found[0].message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_warning_is_raised_where_the_guess_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_warned", False)
    with pytest.warns(GuessedQueryWarning, match="query_source='guessed'"):
        scored(long_prompt())


STOCK = {
    "question last": "Context:\n{context}\n\nQuestion: {question}",
    "one paragraph": "Context: {context}\nQuestion: {question}\nAnswer:",
    "helpful answer": "Use this.\n\n{context}\n\nQuestion: {question}\nHelpful Answer:",
    "answer apart": "{context}\n\nQuestion: {question}\n\nAnswer:",
    "instruction after": "{context}\n\nQuestion: {question}\n\nAnswer in one sentence.",
    "no label": "Answer by the context.\n\n{context}\n\n{question}",
    "question first": "Question: {question}\n\nContext: {context}",
    "question first, answer tail": "Question: {question}\n\nContext: {context}\n\nAnswer:",
    "markdown": "## Context\n{context}\n\n## Question: {question}",
    "user query": "<context>\n{context}\n</context>\n\nUser query: {question}",
    "hub": "You are an assistant for question-answering tasks.\nQuestion: {question} \n"
    "Context: {context} \nAnswer:",
}


@pytest.mark.parametrize("template", STOCK.values(), ids=STOCK.keys())
def test_stock_prompts_give_up_their_question(template: str) -> None:
    text = template.format(context=PARAGRAPH.strip(), question="Which city has many bicycles?")
    assert final_question(text) == "Which city has many bicycles?"


@pytest.mark.parametrize("label", ["question last", "helpful answer", "instruction after"])
def test_a_labelled_question_needs_no_question_mark(label: str) -> None:
    context = f"Who rides? Nobody knows.\n\n{PARAGRAPH.strip()}"
    text = STOCK[label].format(context=context, question="Name the city with many bicycles.")
    assert final_question(text) == "Name the city with many bicycles."


def test_a_question_mark_in_the_context_does_not_win_over_a_question_at_the_end() -> None:
    text = f"Who rides? Nobody.\n\nFAQ question: why?\n\n{PARAGRAPH}\n\nWhich city is it?"
    assert final_question(text) == "Which city is it?"


@pytest.mark.parametrize("text", ["", "\n\n", "Answer:", "plain words", "Question:"])
def test_narrowing_never_comes_up_with_less_than_there_is(text: str) -> None:
    assert final_question(text) == text


def test_nothing_is_logged_of_the_text(caplog: pytest.LogCaptureFixture, quiet_guess: None) -> None:
    with caplog.at_level(logging.DEBUG, logger="hybrid_llm"):
        scored(long_prompt())
    assert "bicycles" not in caplog.text
