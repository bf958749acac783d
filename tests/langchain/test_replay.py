"""ReplayChatModel: recorded answers, found by their query, with what they measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate

from langchain_hybrid import HybridChatModel, ReplayChatModel
from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import DataError
from tests.langchain.doubles import decision_of
from tests.material import calibrated_router

if TYPE_CHECKING:
    from collections.abc import Callable

QUERY = "What is 2 + 2?"
LONGER = "What is 2 + 2? And why?"


def outcome(answer: str | None, *quality: float, cost_usd: float | None = None) -> Outcome:
    texts = None if answer is None else tuple(f"{answer} ({i})" for i in range(len(quality)))
    return Outcome(quality=quality, response=texts, cost_usd=cost_usd)


def made(id_: str, query: str, **outcomes: Outcome) -> RoutingRecord:
    return RoutingRecord(id=id_, query=query, split="train", outcomes=outcomes)


DATA = RoutingDataset(
    (
        made(
            "a",
            QUERY,
            small=outcome("It is four", 1.0, 0.5, cost_usd=0.001),
            large=outcome("Four, of course", 1.0, cost_usd=0.01),
        ),
        made("b", LONGER, small=outcome("Counting", 0.25), large=outcome("By Peano", 1.0)),
        made("c", "Untold?", small=outcome(None, 0.75), large=outcome("Told", 1.0)),
        made("d", "Only large?", large=outcome("Mine", 1.0)),
    ),
    name="made",
)


@pytest.fixture
def small() -> ReplayChatModel:
    return ReplayChatModel(data=DATA, model="small")


async def streamed(model: Any, value: Any) -> list[AIMessageChunk]:
    return [chunk async for chunk in model.astream(value)]


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda model, value: model.invoke(value),
    "stream": lambda model, value: sum(
        list(model.stream(value))[1:], start=next(model.stream(value))
    ),
    "batch": lambda model, value: model.batch([value])[0],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_it_answers_what_was_recorded(small: ReplayChatModel, way: Any) -> None:
    answer = way(small, QUERY)
    assert answer.content == "It is four (0)"
    metadata = answer.response_metadata
    assert {key: metadata[key] for key in ("id", "quality", "cost_usd", "model_name")} == {
        "id": "a",
        "quality": 0.75,
        "cost_usd": 0.001,
        "model_name": "small",
    }


async def test_it_answers_asynchronously(small: ReplayChatModel) -> None:
    assert (await small.ainvoke(QUERY)).content == "It is four (0)"
    chunks = await streamed(small, QUERY)
    assert [chunk.content for chunk in chunks if chunk.content] == ["It ", "is ", "four ", "(0)"]
    merged = chunks[0] + chunks[1:]
    assert merged.response_metadata["quality"] == 0.75
    assert merged.usage_metadata == small.invoke(QUERY).usage_metadata


def test_it_streams_word_by_word(small: ReplayChatModel) -> None:
    words = [chunk.content for chunk in small.stream(QUERY) if chunk.content]
    assert words == ["It ", "is ", "four ", "(0)"]


def test_usage_is_estimated_and_adds_up(small: ReplayChatModel) -> None:
    usage = small.invoke(QUERY).usage_metadata
    assert usage is not None
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 2


@pytest.mark.parametrize(("sample", "text"), [(0, "(0)"), (1, "(1)"), (2, "(0)")])
def test_any_sample_can_be_replayed(sample: int, text: str) -> None:
    model = ReplayChatModel(data=DATA, model="small", sample=sample)
    assert model.invoke(QUERY).content == f"It is four {text}"


def test_an_unknown_cost_is_none(small: ReplayChatModel) -> None:
    assert small.invoke(LONGER).response_metadata["cost_usd"] is None


def test_an_answer_that_was_not_recorded_says_so(small: ReplayChatModel) -> None:
    answer = small.invoke("Untold?")
    assert answer.content == "(no recorded text; quality 0.75)"
    assert answer.response_metadata["quality"] == 0.75


# -- finding the query ----------------------------------------------------------------------------

RAG = ChatPromptTemplate(
    [("system", "Context: {context}"), ("human", "Question: {question}\nHelpful Answer:")]
)


def test_a_query_is_found_inside_a_prompt(small: ReplayChatModel) -> None:
    answer = (RAG | small).invoke({"context": "Peano arithmetic.", "question": QUERY})
    assert answer.content == "It is four (0)"


def test_the_longest_query_that_stands_in_a_prompt_is_meant(small: ReplayChatModel) -> None:
    answer = (RAG | small).invoke({"context": "none", "question": LONGER})
    assert answer.response_metadata["id"] == "b"


def test_a_message_that_is_a_query_wins_over_one_inside_another(small: ReplayChatModel) -> None:
    messages = [SystemMessage(f"An example: {LONGER}"), HumanMessage(f"  {QUERY}\n")]
    assert small.invoke(messages).response_metadata["id"] == "a"


def test_the_last_of_several_queries_is_meant(small: ReplayChatModel) -> None:
    messages = [HumanMessage(LONGER), AIMessage("By Peano"), HumanMessage(QUERY)]
    assert small.invoke(messages).response_metadata["id"] == "a"


def test_a_query_in_parts_is_found(small: ReplayChatModel) -> None:
    message = HumanMessage([{"type": "text", "text": QUERY}])
    assert small.invoke([message]).response_metadata["id"] == "a"


@pytest.mark.parametrize("value", ["Never asked", "Only large?", "", []], ids=repr)
async def test_an_unknown_query_is_a_clear_error(small: ReplayChatModel, value: Any) -> None:
    says = "made: none of its recorded queries stands in these messages; 'small' can only replay"
    with pytest.raises(DataError, match=says):
        small.invoke(value)
    with pytest.raises(DataError, match=says):
        await small.ainvoke(value)
    with pytest.raises(DataError, match=says):
        list(small.stream(value))


def test_an_unknown_model_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="made: no outcomes of 'nobody' to replay"):
        ReplayChatModel(data=DATA, model="nobody")


# -- beside the router ----------------------------------------------------------------------------


def test_it_is_named_as_the_router_names_it() -> None:
    small, large = (ReplayChatModel(data=DATA, model=name) for name in ("small", "large"))
    model = HybridChatModel(small=small, large=large, router=calibrated_router())
    answer = model.invoke(QUERY)
    assert decision_of(answer)["guarantee"] == "estimated"
    assert answer.response_metadata["id"] == "a"
    assert model.invoke(QUERY, route="large").content == "Four, of course (0)"


def test_it_shows_no_data(small: ReplayChatModel) -> None:
    assert "2 + 2" not in repr(small)
    assert "2 + 2" not in str(small.model_dump())
