"""ReplayLLM answers with what was recorded, in every way an LLM is asked."""

from __future__ import annotations

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from llamaindex_hybrid import ReplayLLM
from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import DataError
from tests.llamaindex.conftest import words
from tests.llamaindex.operations import (
    ENDPOINTS,
    PROMPT,
    drawn,
    messages,
    text_of,
    with_async,
)

QUESTION = "Which rule is first?"
ANSWERS = ("The forced one.", "A forced route.")


def recorded() -> RoutingDataset:
    outcome = Outcome(quality=(1.0, 0.5), response=ANSWERS, cost_usd=0.25)
    bare = Outcome(quality=(0.5,))
    return RoutingDataset(
        (
            RoutingRecord(id="q1", query=QUESTION, split="train", outcomes={"m": outcome}),
            RoutingRecord(id="q2", query="Why?", split="train", outcomes={"m": bare}),
        ),
        "made",
    )


@pytest.fixture
def llm() -> ReplayLLM:
    return ReplayLLM(data=recorded(), model="m")


@pytest.mark.parametrize("name", with_async(ENDPOINTS))
async def test_every_endpoint_replays(name: str, llm: ReplayLLM) -> None:
    asked = messages(QUESTION) if "chat" in name else QUESTION
    found = await drawn(getattr(llm, name)(asked))
    assert text_of(found[-1]) == ANSWERS[0]
    if "stream" in name:
        assert len(found) == 3
        assert "".join(chunk.delta for chunk in found) == ANSWERS[0]
    assert found[-1].additional_kwargs == {"id": "q1", "quality": 0.75, "cost_usd": 0.25}
    assert found[-1].raw["usage"]["completion_tokens"] == 4


def test_a_recorded_question_is_found_inside_a_prompt(llm: ReplayLLM) -> None:
    assert llm.predict(PROMPT, context_str="much text", query_str=QUESTION) == ANSWERS[0]


def test_another_sample_can_be_replayed() -> None:
    llm = ReplayLLM(data=recorded(), model="m", sample=1)
    assert llm.complete(QUESTION).text == ANSWERS[1]


def test_a_quality_without_a_text_is_said(llm: ReplayLLM) -> None:
    assert llm.complete("Why?").text == "(no recorded text; quality 0.5)"


def test_what_was_not_recorded_is_an_error(llm: ReplayLLM) -> None:
    with pytest.raises(DataError, match="can only replay what it was asked"):
        llm.complete("Who?")
    with pytest.raises(DataError, match="no outcomes of 'other'"):
        ReplayLLM(data=recorded(), model="other")


def test_it_tells_its_name_and_its_tokens(llm: ReplayLLM) -> None:
    counter = TokenCountingHandler(tokenizer=words)
    llm.callback_manager = CallbackManager([counter])
    llm.chat(messages(QUESTION))
    assert counter.total_llm_token_count == 6 + 4
    assert llm.metadata.model_name == "m"
    assert llm.metadata.is_chat_model
    assert "Which rule" not in repr(llm)
    assert "data" not in llm.to_dict()
