"""Dials given by keyword hold in every operation and in what is made of the LLM."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram

from shared_router import hybrid_options
from shared_router.errors import ConfigurationError, DialError
from tests.llamaindex.fakes import Decisions, hybrid
from tests.llamaindex.operations import (
    ALL,
    PROMPT,
    QUESTION,
    STRUCTURED,
    VARIABLES,
    Answer,
    drawn,
    messages,
    run,
    with_async,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llamaindex_hybrid import HybridLLM

OPTIONS: list[dict[str, Any]] = [{"route": "large"}, {"threshold": 5, "task": "sums"}]
CALLS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(with_async(("chat", "stream_chat")), (messages(),)),
    **dict.fromkeys(with_async(("complete",)), (QUESTION,)),
    **dict.fromkeys(with_async(("predict", "stream")), (PROMPT,)),
}


def asked_large_alone(llm: HybridLLM) -> None:
    assert (len(llm.small.requests), len(llm.large.requests)) == (0, 1)
    assert not {"route", "threshold", "task"} & set(llm.large.requests[0])


def variables(name: str) -> dict[str, Any]:
    return dict(VARIABLES) if CALLS[name] == (PROMPT,) else {}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ALL)
async def test_a_keyword_holds_and_reaches_no_model(name: str, options: Any) -> None:
    llm = hybrid()
    with hybrid_options(threshold=-5):
        await run(llm, name, **options)
    asked_large_alone(llm)


@pytest.mark.parametrize("name", with_async(STRUCTURED))
async def test_a_keyword_for_the_model_wins_over_the_context(name: str) -> None:
    llm = hybrid()
    with hybrid_options(route="small"):
        asked = getattr(llm, name)(Answer, PROMPT, llm_kwargs={"route": "large"}, **VARIABLES)
        await drawn(asked)
    asked_large_alone(llm)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", CALLS)
async def test_a_structured_llm_keeps_what_it_was_made_with(name: str, options: Any) -> None:
    llm = hybrid()
    structured = llm.as_structured_llm(Answer, **options)
    with hybrid_options(threshold=-5):
        await drawn(getattr(structured, name)(*CALLS[name], **variables(name)))
    asked_large_alone(llm)


@pytest.mark.parametrize("name", CALLS)
async def test_a_structured_llms_call_has_the_last_word(name: str) -> None:
    llm = hybrid()
    structured = llm.as_structured_llm(Answer, route="small")
    with hybrid_options(route="small"):
        await drawn(getattr(structured, name)(*CALLS[name], route="large", **variables(name)))
    asked_large_alone(llm)


@pytest.mark.parametrize("kind", [FunctionCallingProgram, LLMTextCompletionProgram])
@pytest.mark.parametrize(
    ("way", "given"),
    [(lambda llm: llm, {"llm_kwargs": {"route": "large"}}),
     (lambda llm: llm.as_structured_llm(Answer, route="large").llm, {})],
)  # fmt: skip
def test_a_program_hands_it_on(kind: Any, way: Callable[[Any], Any], given: Any) -> None:
    llm = hybrid()
    template = "Say {query_str} shortly"
    program = kind.from_defaults(output_cls=Answer, prompt_template_str=template, llm=way(llm))
    assert program(query_str=QUESTION, **given)
    asked_large_alone(llm)


def test_the_llm_itself_is_left_as_it_is(decisions: Decisions) -> None:
    llm = hybrid(on_decision=[decisions.append])
    held: Any = llm.as_structured_llm(Answer, route="large").llm
    assert llm.as_structured_llm(Answer).llm is llm
    assert held.engine is llm.engine
    llm.complete(QUESTION)
    held.model_copy(update={"threshold": 1.0}).complete(QUESTION)
    assert decisions.candidates == ["small", "large"]
    assert held.route(QUESTION).candidate == "large"


def test_a_pickle_keeps_them() -> None:
    held: Any = hybrid().as_structured_llm(Answer, route="large").llm
    copied = pickle.loads(pickle.dumps(held))  # noqa: S301  (written the line before)
    assert copied.route(QUESTION).reason == "forced"


def test_a_wrong_option_is_refused_where_it_is_given() -> None:
    with pytest.raises(DialError, match="One dial at a time"):
        hybrid().as_structured_llm(Answer, threshold=1, cost_advantage=0.5)
    with pytest.raises(ConfigurationError, match="did you mean 'threshold'"):
        hybrid().as_structured_llm(Answer, treshold=1)
