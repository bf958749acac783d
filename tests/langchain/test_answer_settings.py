"""How an answer will be made: what of it is told to the router, and what other settings change."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from langchain_hybrid import HybridChatModel
from langchain_hybrid.settings import answer_settings, described_sha256
from langchain_hybrid.tools import BoundTools
from shared_router.records import AnswerSettings
from shared_router.serving.second_look import LooksLine, SecondLook
from shared_router.support.hashing import text_sha256
from shared_router.testing import FixedAnswerScorer
from tests.langchain.fakes import FakeChat, hybrid
from tests.langchain.looks import DEAR, RIGHT, WRONG, by_words, looking, told
from tests.langchain.test_binding import look_up
from tests.llamaindex.fronts import PROMISED, SHORT, promising

ASKED = [HumanMessage("Hi")]


class Warm(FakeChat):
    """Has settings of its own."""

    temperature: float | None = None
    num_predict: int | None = None


class Report(BaseModel):
    """A report."""

    word: str


@pytest.mark.parametrize(
    ("model", "kwargs", "expected"),
    [
        (Warm(), {}, (None, None)),
        (Warm(temperature=0.0, num_predict=7), {}, (0.0, 7)),
        (Warm(temperature=0.7).bind(temperature=0.0), {}, (0.0, None)),
        (Warm(temperature=0.7).bind(temperature=0.0), {"temperature": 1}, (1.0, None)),
        (Warm(num_predict=7), {"max_tokens": 9}, (None, 9)),
        (Warm(temperature=0.3).with_retry(), {}, (0.3, None)),
        (Warm(temperature=0.3).with_fallbacks([Warm()]), {}, (0.3, None)),
        (Warm(), {"temperature": "hot", "max_tokens": 2.5}, (None, None)),
    ],
)
def test_a_call_goes_before_what_is_bound_and_that_before_the_model(
    model: Any, kwargs: dict[str, Any], expected: tuple[float | None, int | None]
) -> None:
    found = answer_settings(model, ASKED, kwargs)
    assert (found.temperature, found.max_tokens) == expected
    assert (found.system_sha256, found.tools_sha256, found.schema_sha256) == (None, None, None)


def test_the_system_prompt_is_told_by_its_hash() -> None:
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        SystemMessage([{"type": "text", "text": "Be kind."}]),
    ]
    assert answer_settings(Warm(), messages[:2], {}).system_sha256 == text_sha256("Be brief.")
    found = answer_settings(Warm(), messages, {}).system_sha256
    assert found == text_sha256("Be brief.\nBe kind.")


def test_tools_and_schemas_are_told_by_theirs() -> None:
    @tool
    def count(words: int) -> int:
        """Count words."""
        return words

    one = described_sha256([look_up])
    assert one == described_sha256(BoundTools([look_up]))
    assert one != described_sha256([count])
    assert described_sha256([look_up, count]) == described_sha256([count, look_up])
    found = answer_settings(Warm(), ASKED, {"tools": BoundTools([look_up])}, [Report])
    assert found.tools_sha256 == one
    assert found.schema_sha256 == described_sha256([convert_to_openai_tool(Report)])
    assert described_sha256([object()]) == described_sha256([object()])
    assert described_sha256([None]) is not None


def test_they_are_read_only_where_answers_are_looked_at() -> None:
    def request(model: Any, **kwargs: Any) -> Any:
        return model.routed_call([SystemMessage("Be brief."), *ASKED], None, kwargs).request

    assert request(hybrid()).settings is None
    found = request(looking(), temperature=0.5).settings
    assert (found.model, found.temperature) == ("small", 0.5)
    assert found.system_sha256 == text_sha256("Be brief.")


def test_settings_that_cannot_be_read_break_no_call(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(FakeChat):
        @property
        def num_predict(self) -> int:
            raise RuntimeError("secret")

    model = looking(Odd(model="small", answer="right"))
    assert model.invoke("Hi").text == "right"
    assert "Reading a call's settings raised RuntimeError" in caplog.text
    assert "secret" not in caplog.text


# -- what holds of an answer that was looked at ---------------------------------------------------


def promised(answer: str, *, down: bool = False) -> HybridChatModel:
    """Wrap two models under a promise that holds for answers at temperature 0."""
    router = promising()
    scorer = FixedAnswerScorer(lambda text: 100.0 * by_words(text))
    line = LooksLine(curve=router.curve, promises=router.promises)
    settings = AnswerSettings(temperature=0.0)
    looks = SecondLook(scorer=scorer, width=100.0, pays=True, settings=settings, line=line)
    return HybridChatModel(
        small=FakeChat(model="small", answer=answer),
        large=FakeChat(model="large", answer=DEAR, fail_after=0 if down else None),
        router=dataclasses.replace(router, second_look=looks),
        **PROMISED,
    )


@pytest.mark.parametrize(("answer", "name"), [(RIGHT, "small"), (WRONG, "large")])
def test_a_call_alike_is_promised_accepted_or_passed_on(answer: str, name: str) -> None:
    found = told(promised(answer).invoke(SHORT, temperature=0.0))
    assert (found["reason"], found["answered_by"]) == ("second_look", name)
    assert found["guarantee"] == "promised"


def test_a_call_with_other_settings_is_not() -> None:
    model = promised(RIGHT)
    asked: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "temperature": (ASKED, {"temperature": 0.5}),
        "none": (ASKED, {}),
        "system prompt": ([SystemMessage("Be brief."), *ASKED], {"temperature": 0.0}),
        "length": (ASKED, {"temperature": 0.0, "max_tokens": 9}),
    }
    for messages, kwargs in asked.values():
        found = told(model.invoke(messages, **kwargs))
        assert (found["guarantee"], found["guarantee_reason"]) == ("void", "other settings")


def test_an_answer_in_hand_is_void() -> None:
    found = told(promised(WRONG, down=True).invoke(SHORT, temperature=0.0))
    assert (found["answered_by"], found["answered_because"]) == ("small", "chosen")
    assert (found["guarantee"], found["guarantee_reason"]) == ("void", "fallback")
