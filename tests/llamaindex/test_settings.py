"""How an answer would be made, as a call tells it; one made otherwise claims nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, SelectorPromptTemplate
from llama_index.core.prompts.utils import is_chat_model
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.requests import asked_in_messages, asked_in_prompt, asked_in_text
from llamaindex_hybrid.settings import UNREAD, known_settings, settings_of
from shared_router.deciding.looks import looks_curve
from shared_router.options import Dial
from shared_router.records import AnswerSettings
from shared_router.serving.second_look import LooksLine
from shared_router.support.hashing import text_sha256
from shared_router.testing import FixedAnswerScorer, fixed_router
from tests.llamaindex.fakes import FakeLLM, claimed
from tests.llamaindex.operations import (
    CHAT_PROMPT,
    PROMPT,
    QUESTION,
    TOOL,
    VARIABLES,
    Answer,
    messages,
)

if TYPE_CHECKING:
    import pytest

SYSTEM = ChatMessage("Be short.", role="system")


class Warm(FakeLLM):
    """Has a temperature and a longest answer of its own."""

    temperature: float = 0.1
    max_tokens: int | None = 64


# -- what a call tells ----------------------------------------------------------------------------


def test_keywords_come_before_the_models_own() -> None:
    asked = asked_in_messages(messages(), keywords={"temperature": 0, "max_tokens": 7})
    found = settings_of(asked, Warm(name="a"))
    assert found == AnswerSettings(model="a", temperature=0.0, max_tokens=7)
    assert settings_of(asked_in_text("x"), Warm()).max_tokens == 64
    client = OpenAILike(model="a", additional_kwargs={"max_completion_tokens": 9})
    assert (found.temperature, settings_of(asked_in_text("x"), client).max_tokens) == (0.0, 9)
    assert settings_of(asked_in_text("x"), FakeLLM(name="a")) == AnswerSettings(model="a")


def test_a_system_prompt_is_told_by_its_hash() -> None:
    said = [SYSTEM, *messages()]
    short = settings_of(asked_in_messages(said), Warm(), "Of the wrapper.").system_sha256
    assert short == text_sha256("Be short.")  # LlamaIndex adds a model's own to prompts alone
    for model, own in ((Warm(), "Be short."), (Warm(system_prompt="Be short."), None)):
        assert settings_of(asked_in_prompt(PROMPT, VARIABLES), model, own).system_sha256 == short
    both = settings_of(asked_in_prompt(CHAT_PROMPT, VARIABLES), Warm(), "Be kind.").system_sha256
    assert both == text_sha256("Be kind.\nAnswer shortly. Numbers can be added.")


def test_of_several_prompts_the_models_own_is_read() -> None:
    prompt = SelectorPromptTemplate(PROMPT, [(is_chat_model, CHAT_PROMPT)])
    asked = asked_in_prompt(prompt, VARIABLES)
    known = text_sha256("Answer shortly. Numbers can be added.")
    assert settings_of(asked, Warm()).system_sha256 == known
    assert settings_of(asked, Warm(chat_model=False)).system_sha256 is None


def test_a_prompts_functions_are_not_run() -> None:
    ran: list[Any] = []
    prompt = ChatPromptTemplate(
        message_templates=[SYSTEM, *messages("{now}")], function_mappings={"now": ran.append}
    )
    found = settings_of(asked_in_prompt(prompt, {}), Warm())
    assert (found.system_sha256, ran) == (text_sha256("Be short."), [])


def test_tools_and_schemas_are_told_by_their_hashes() -> None:
    class Other(BaseModel):
        text: str

    tools = [settings_of(asked_in_messages([], tools=t), Warm()) for t in ([], [TOOL], [TOOL] * 2)]
    schemas = [settings_of(asked_in_text("x", schema=s), Warm()) for s in (None, Answer, Other)]
    assert len({each.tools_sha256 for each in tools}) == 3
    assert len({each.schema_sha256 for each in schemas}) == 3
    assert (tools[0].tools_sha256, schemas[0].schema_sha256) == (None, None)


def test_what_cannot_be_read_is_like_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PromptTemplate):
        def format_messages(self, *args: Any, **kwargs: Any) -> Any:
            raise KeyError("secret")

    assert known_settings(asked_in_prompt(Broken("{x}"), {}), Warm()) == UNREAD
    assert not UNREAD.alike(AnswerSettings())
    assert "raised KeyError" in caplog.text
    assert "secret" not in caplog.text


# -- what is claimed ------------------------------------------------------------------------------


def calibrated(answer: float, **how: Any) -> HybridLLM:
    """Wrap two fakes by a router whose line with looks was measured at a temperature of 0.1."""
    rng = np.random.default_rng(0)
    router = fixed_router(0.0, answers=FixedAnswerScorer(answer))
    assert router.second_look is not None
    scores, answers = rng.normal(size=(2, 400, 1)) * 0.1
    quality = np.column_stack([(answers[:, 0] > 0).astype(float), np.ones(400)])
    band = router.second_look.band(router.rule)
    narrow = dataclasses.replace(band, width=0.0)
    curves = [looks_curve(router.rule, each, scores, answers, quality) for each in (band, narrow)]
    known = AnswerSettings(temperature=0.1, max_tokens=64)
    line = LooksLine(curve=curves[0])
    own = dataclasses.replace(router.second_look, line=line, settings=known)
    dial = Dial("max_quality_drop", 0.3)
    router = dataclasses.replace(router, curve=curves[1], second_look=own, default_dial=dial)
    pair = {"small": Warm(name="small"), "large": FakeLLM(name="large")}
    return HybridLLM(**{**pair, "router": router, "same_models": True, **how})


async def test_answers_made_otherwise_are_claimed_for_nothing() -> None:
    llm = calibrated(1.0)
    alike, other = ("estimated", "not promised"), ("void", "other settings")
    assert claimed(llm.chat(messages())) == alike
    assert claimed(await llm.acomplete(QUESTION)) == alike
    assert claimed(llm.chat(messages(), temperature=0.1)) == alike
    assert claimed(llm.chat(messages(), temperature=0.7)) == other
    assert claimed(await llm.achat([SYSTEM, *messages()])) == other
    assert claimed(llm.chat(messages(), temperature=0.7, second_look=False)) == alike


def test_the_wrappers_own_system_prompt_counts() -> None:
    heard: list[Any] = []
    llm = calibrated(1.0, on_call=[heard.append], system_prompt="Be short.")
    llm.predict(PROMPT, **VARIABLES)
    llm.chat(messages())
    llm.structured_predict(Answer, PROMPT, **VARIABLES)
    reasons = [each.guarantee_reason for each in heard]
    assert reasons == ["other settings", "not promised", "other settings"]


def test_an_answer_that_stands_in_for_a_failed_model_is_void() -> None:
    heard: list[Any] = []
    down = FakeLLM(name="large", fail_after=0)
    llm = calibrated(-1.0, large=down, on_call=[heard.append])
    assert claimed(llm.chat(messages())) == ("void", "fallback")
    assert (heard[0].guarantee, heard[0].guarantee_reason) == ("void", "fallback")
