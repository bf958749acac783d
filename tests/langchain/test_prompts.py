"""The two ways to state the question where a prompt hides it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel
from langchain_core.runnables.config import ContextThreadPoolExecutor

from langchain_hybrid import QueryFromPrompt, with_routing_query
from shared_router import routing_query
from shared_router.context import current_query
from shared_router.errors import ConfigurationError
from tests.langchain.doubles import RecordingScorer, decision_of, hybrid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LAST = "Context:\n{context}\n\nQuestion: {question}"
FIRST = "Question: {question}\n\nContext:\n{context}"
BETWEEN = "Context:\n{context}\n\nQuestion: {question}\n\nStyle: {style}\nHelpful Answer:"


def recovered(template: Any, variable: str = "question", **values: str) -> str | None:
    """Format a template and recover a variable from the messages."""
    if isinstance(template, str):
        messages: list[Any] = [HumanMessage(template.format(**values))]
    elif isinstance(template, PromptTemplate):
        messages = template.format_prompt(**values).to_messages()
    else:
        messages = template.format_messages(**values)
    return QueryFromPrompt(template, variable)(messages)


# -- QueryFromPrompt ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [LAST, FIRST, BETWEEN], ids=["last", "first", "between"])
@pytest.mark.parametrize("make", [str, PromptTemplate.from_template, ChatPromptTemplate])
def test_the_variable_is_recovered_wherever_it_stands(make: Any, text: str) -> None:
    template = make([("human", text)]) if make is ChatPromptTemplate else make(text)
    values = {"context": "Some text.\nMore.", "question": "Why?"}
    if "{style}" in text:
        values["style"] = "plain"
    assert recovered(template, **values) == "Why?"


@pytest.mark.parametrize(
    "question", ["{braces} {{twice}}", "a\nb\n\nc", "Ж 漢字 🧑‍🚀", "$^.*(", " x "]
)
@pytest.mark.parametrize("text", [LAST, FIRST, BETWEEN], ids=["last", "first", "between"])
def test_values_may_hold_anything(text: str, question: str) -> None:
    values = {"context": "{c}\n\n(.*", "question": question, "style": "\\d"}
    assert recovered(text, **values) == question


@pytest.mark.parametrize("context", ["Question: who?", "a\n\nQuestion: who?\n\nQuestion: b", ""])
def test_a_separator_in_the_context_before_the_question_does_no_harm(context: str) -> None:
    assert recovered(LAST, context=context, question="Why?") == "Why?"
    assert recovered(FIRST, context=f"{context}\n\nContext:\nmore", question="Why?") == "Why?"


TEXTS = st.text(max_size=80)


@example(context="", question="Why?", head="", middle="?P<query>")
@given(context=TEXTS, question=TEXTS, head=TEXTS, middle=st.text(min_size=1, max_size=20))
def test_any_question_is_recovered_exactly(
    context: str, question: str, head: str, middle: str
) -> None:
    """The separator stands once only: nothing else is asked of the values."""

    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    for template in ("{context}" + escaped(middle) + "{question}",
                     "{question}" + escaped(middle) + "{context}"):  # fmt: skip
        template = escaped(head) + template
        formatted = template.format(context=context, question=question)
        body = formatted[len(head) :]
        assume(_appearances(body, middle) == 1)
        found = QueryFromPrompt(template, "question")([HumanMessage(formatted)])
        assert found == question


def _appearances(text: str, part: str) -> int:
    """Count, overlaps included."""
    return sum(text.startswith(part, i) for i in range(len(text)))


def test_the_last_message_that_fits_is_read() -> None:
    template = ChatPromptTemplate(
        [
            ("system", "Context: {context}"),
            ("human", "Question: how many legs has a cat?"),
            ("ai", "Four."),
            ("placeholder", "{history}"),
            ("human", "Question: {question}"),
        ]
    )
    history = [HumanMessage("Question: earlier?"), AIMessage("...")]
    messages = template.format_messages(context="c", question="and a dog?", history=history)
    assert QueryFromPrompt(template, "question")(messages) == "and a dog?"
    agent = [*messages, AIMessage("..."), HumanMessage("something else")]
    assert QueryFromPrompt(template, "question")(agent) == "and a dog?"


def test_a_variable_of_the_system_message_is_recovered() -> None:
    template = ChatPromptTemplate([("system", "The user asks: {question}"), ("human", "Go.")])
    assert recovered(template, question="Why?") == "Why?"


def test_a_variable_that_stands_twice_is_recovered() -> None:
    assert recovered("{question}\n{context}\n{question}", question="Q?", context="c") == "Q?"


def test_partial_and_empty_values() -> None:
    template = ChatPromptTemplate([("human", LAST)]).partial(context="fixed")
    assert recovered(template, question="Why?") == "Why?"
    assert recovered(template, question="") == ""


def test_a_long_context_takes_no_long_time() -> None:
    context = "\n\nQuestion: x\n\n".join(["a line of text. " * 20] * 200)
    started = time.perf_counter()
    assert recovered(BETWEEN, context=context, question="Why?", style="plain") == "Why?"
    assert QueryFromPrompt(BETWEEN, "question")([HumanMessage(context)]) is None
    assert time.perf_counter() - started < 2


def test_no_fitting_message_is_none() -> None:
    extractor = QueryFromPrompt("Q: {question}", "question")
    assert extractor([HumanMessage("other")]) is None
    assert extractor([]) is None
    assert extractor([HumanMessage([{"type": "text", "text": "Q: parts"}])]) is None
    assert extractor([AIMessage("Q: from the model")]) is None


@pytest.mark.parametrize(
    "template",
    ["Only {context}", PromptTemplate.from_template("{context}"),
     ChatPromptTemplate([("human", "{context}"), ("placeholder", "{question}")])],
    ids=["text", "prompt", "chat"],
)  # fmt: skip
def test_a_missing_variable_is_an_error(template: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no message of the template has .*'question'"):
        QueryFromPrompt(template, "question")


@pytest.mark.parametrize("kind", ["mustache", "jinja2"])
def test_a_template_of_another_format_is_an_error(kind: Any) -> None:
    template = ChatPromptTemplate([("human", "{{question}}")], template_format=kind)
    with pytest.raises(ConfigurationError, match=f"this one is {kind}.*with_routing_query"):
        QueryFromPrompt(template, "question")


def test_it_shows_its_variable() -> None:
    assert repr(QueryFromPrompt("{q}", "q")) == "QueryFromPrompt('q')"


# -- with_routing_query ---------------------------------------------------------------------------

PROMPT = ChatPromptTemplate([("human", "Context: {context}\nQuestion: {question}\nAnswer:")])
INPUT = {"context": "a text", "question": "Why?"}
CHAT: Any = PROMPT.invoke(INPUT)


def routed(key: Any = "question") -> tuple[Any, RecordingScorer]:
    """Make a prompt | model | parser chain with its question stated, and its scorer."""
    scorer = RecordingScorer()
    return with_routing_query(PROMPT | hybrid(scorer) | StrOutputParser(), key=key), scorer


def inputs(n: int = 3) -> list[dict[str, str]]:
    return [{"context": f"c{i}", "question": f"Why {i}?"} for i in range(n)]


def test_invoke_stream_and_transform() -> None:
    chain, scorer = routed()
    assert chain.invoke(INPUT) == "from small"
    assert "".join(chain.stream(INPUT)) == "from small"
    assert "".join(chain.transform(iter([INPUT]))) == "from small"
    assert scorer.texts == ["Why?"] * 3


async def test_ainvoke_astream_and_atransform() -> None:
    async def one() -> AsyncIterator[Any]:
        yield INPUT

    chain, scorer = routed()
    assert await chain.ainvoke(INPUT) == "from small"
    assert "".join([chunk async for chunk in chain.astream(INPUT)]) == "from small"
    assert "".join([chunk async for chunk in chain.atransform(one())]) == "from small"
    assert scorer.texts == ["Why?"] * 3


async def test_every_input_of_a_batch_has_its_own_question() -> None:
    chain, scorer = routed()
    assert chain.batch(inputs()) == ["from small"] * 3
    assert await chain.abatch(inputs()) == ["from small"] * 3
    assert len(list(chain.batch_as_completed(inputs()))) == 3
    assert len([each async for each in chain.abatch_as_completed(inputs())]) == 3
    expected = [each["question"] for each in inputs()]
    for i in range(4):
        assert sorted(scorer.texts[3 * i : 3 * i + 3]) == expected


async def test_events_of_a_chain_are_routed_by_its_question() -> None:
    chain, scorer = routed()
    events = [event async for event in chain.astream_events(INPUT, version="v2")]
    assert scorer.texts == ["Why?"]
    assert any(event["event"] == "on_chat_model_stream" for event in events)


async def test_a_v3_stream_of_a_model_is_routed_by_its_question() -> None:
    scorer = RecordingScorer()
    chain = with_routing_query(hybrid(scorer), key=lambda messages: "stated")
    assert str(chain.stream_events("long", version="v3").text) == "from small"
    stream = await chain.astream_events("long", version="v3")
    assert str(await stream.text) == "from small"
    assert scorer.texts == ["stated"] * 2
    assert current_query() is None


async def test_a_v3_stream_that_would_lose_the_question_is_refused() -> None:
    chain, _ = routed()
    with pytest.raises(NotImplementedError, match="inside `with routing_query"):
        chain.stream_events(INPUT, version="v3")
    with pytest.raises(NotImplementedError, match="inside `with routing_query"):
        await chain.astream_events(INPUT, version="v3")


def test_the_decision_says_where_the_query_came_from() -> None:
    chain = with_routing_query(PROMPT | hybrid())
    assert decision_of(chain.invoke(INPUT))["query_source"] == "explicit"


def test_the_key_may_be_a_function() -> None:
    chain, scorer = routed(key=lambda value: value["question"].upper())
    chain.invoke(INPUT)
    assert scorer.texts == ["WHY?"]


@pytest.mark.parametrize("key", [lambda value: None, lambda value: 42])
def test_a_function_that_finds_no_text_leaves_the_query_open(key: Any) -> None:
    chain, scorer = routed(key=key)
    chain.invoke(INPUT)
    with routing_query("outer"):
        chain.invoke(INPUT)
    assert scorer.texts == [CHAT.to_string().removeprefix("Human: "), "outer"]


def test_an_input_that_is_a_string_is_the_question() -> None:
    scorer = RecordingScorer()
    to_prompt = RunnableLambda(lambda text: {"context": "c", "question": text})
    with_routing_query(to_prompt | PROMPT | hybrid(scorer)).invoke("Why?")
    assert scorer.texts == ["Why?"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"context": "c", "input": "q"}, "no key 'question'; it has 'context', 'input'"),
        ({}, "no key 'question'"),
        ([HumanMessage("a list")], "no key 'question'"),
        (None, "no key 'question'"),
    ],
    ids=["other keys", "empty", "messages", "nothing"],
)
async def test_a_missing_key_names_those_there_are(value: Any, says: str) -> None:
    chain, scorer = routed()
    with pytest.raises(ConfigurationError, match=says):
        chain.invoke(value)
    with pytest.raises(ConfigurationError, match=says):
        await chain.ainvoke(value)
    with pytest.raises(ConfigurationError, match=says):
        next(chain.stream(value))
    assert scorer.texts == []


def test_an_error_does_not_show_the_question() -> None:
    chain, _ = routed()
    with pytest.raises(ConfigurationError) as caught:
        chain.invoke({"prompt": "a secret"})
    assert "secret" not in str(caught.value)


def test_bound_options_pass_through() -> None:
    scorer = RecordingScorer()
    chain = with_routing_query(hybrid(scorer), key=lambda _: "stated")
    assert decision_of(chain.invoke("x", threshold=5))["candidate"] == "large"
    assert decision_of(chain.bind(threshold=5).invoke("x"))["candidate"] == "large"
    configured = chain.with_config(configurable={"hybrid_threshold": 5})
    assert decision_of(configured.invoke("x"))["candidate"] == "large"
    assert scorer.texts == ["stated"] * 3


# -- the query stays inside -----------------------------------------------------------------------


def test_nothing_is_left_after_a_call_or_an_error() -> None:
    chain, _ = routed()
    chain.invoke(INPUT)
    assert current_query() is None
    broken = with_routing_query(RunnableLambda(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        broken.invoke(INPUT)
    assert current_query() is None


def test_nothing_leaks_between_the_chunks_of_a_stream() -> None:
    chain, _ = routed()
    outside = [current_query() for _ in chain.stream(INPUT)]
    assert len(outside) >= 2
    assert outside == [None] * len(outside)
    abandoned = chain.stream(INPUT)
    next(abandoned)
    abandoned.close()
    assert current_query() is None


async def test_nothing_leaks_between_the_chunks_of_an_async_stream() -> None:
    chain, _ = routed()
    outside = [current_query() async for _ in chain.astream(INPUT)]
    assert len(outside) >= 2
    assert outside == [None] * len(outside)
    abandoned = chain.astream(INPUT)
    await anext(abandoned)
    await abandoned.aclose()
    assert current_query() is None


def test_interleaved_streams_keep_their_own_questions() -> None:
    seen: list[str] = []

    def note(chunks: Iterator[Any]) -> Iterator[Any]:
        for value in chunks:
            for _ in range(3):
                query = current_query()
                seen.append(query.text if query else "")
                yield value

    chain = with_routing_query(RunnableLambda(lambda value: value) | note)
    one, other = chain.stream({"question": "one"}), chain.stream({"question": "other"})
    with routing_query("consumer"):
        for _ in range(3):
            next(one)
            next(other)
    assert seen == ["one", "other"] * 3


async def test_concurrent_calls_keep_their_own_questions() -> None:
    scorer = RecordingScorer()
    model = hybrid(scorer)
    model.small.delay_s = 0.02
    chain = with_routing_query(PROMPT | model)
    await asyncio.gather(*(chain.ainvoke(each) for each in inputs(8)))
    assert sorted(scorer.texts) == sorted(each["question"] for each in inputs(8))
    bare = await asyncio.gather(chain.ainvoke(INPUT), (PROMPT | model).ainvoke(INPUT))
    assert [decision_of(answer)["query_source"] for answer in bare] == [
        "explicit",
        "last_user_message",
    ]


def test_calls_on_threads_keep_their_own_questions() -> None:
    scorer = RecordingScorer()
    chain = with_routing_query(PROMPT | hybrid(scorer))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(chain.invoke, inputs(16)))
    assert sorted(scorer.texts) == sorted(each["question"] for each in inputs(16))


def test_the_innermost_question_counts() -> None:
    scorer = RecordingScorer()
    inner = with_routing_query(PROMPT | hybrid(scorer) | StrOutputParser())
    rewrite = RunnableLambda(lambda value: {**value, "question": f"{value['question']} (inner)"})
    outer = with_routing_query(rewrite | inner | hybrid(scorer))
    outer.invoke(INPUT)
    assert scorer.texts == ["Why? (inner)", "Why?"]


async def test_parallel_branches_threads_and_tasks_see_the_question() -> None:
    scorer = RecordingScorer()
    model = hybrid(scorer)

    def in_thread(value: Any, config: RunnableConfig) -> Any:
        with ContextThreadPoolExecutor(1) as pool:
            return pool.submit(model.invoke, "in a thread", config).result()

    async def in_task(value: Any, config: RunnableConfig) -> Any:
        await asyncio.to_thread(model.invoke, "to a thread", config)
        return await asyncio.create_task(model.ainvoke("in a task", config))

    branches = RunnableParallel(
        model=PROMPT | model,
        thread=RunnableLambda(in_thread),
        task=RunnableLambda(in_thread, afunc=in_task),
    )
    chain = with_routing_query(branches)
    chain.invoke(INPUT)
    await chain.ainvoke(INPUT)
    assert scorer.texts == ["Why?"] * 7


def test_a_text_that_does_not_fit_takes_linear_time():
    extract = QueryFromPrompt("{a}\n{b}\n{c}\nQ {question}\nEnd", "question")
    for ending in ("", "\nEnd"):  # a regular expression would not end
        assert extract([HumanMessage("x\n" * 200_000 + ending)]) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1|2|Q why?|E 3 End", "why?"),
        ("1|2|Q a|Q why?|E 3 End", "why?"),  # after the separator's last appearance
        ("1|2|Q why? 3 End", None),  # no separator behind
        ("1|2|why?|E 3 End", None),  # none before
        ("1|Q why?|E 3 End", None),  # one too few before
        ("1 Q why?|E 3 End", None),
        ("|Q why?|E 3 End", None),
    ],
)
def test_all_separators_stand_around_the_query(text: str, found: str | None) -> None:
    extract = QueryFromPrompt("{a}|{b}|Q {question}|E {c} End", "question")
    assert extract([HumanMessage(text)]) == found


def test_a_template_with_braces_of_its_own():
    extract = QueryFromPrompt('{{"context": "{context}"}}\nQ: {question}\nA:', "question")
    assert extract([HumanMessage('{"context": "c"}\nQ: why?\nA:')]) == "why?"


def test_a_key_function_that_raises_leaves_the_chain_alone():
    chain = with_routing_query(RunnableLambda(lambda x: x), key=lambda _: 1 / 0)
    assert chain.invoke({"a": 1}) == {"a": 1}
