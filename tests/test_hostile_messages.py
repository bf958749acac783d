"""A message cannot stop the process: a bounded part of it is read, off the event loop."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.queries import user_text
from shared_router import Router
from shared_router.asking.questions import final_question, is_tool_noise
from shared_router.asking.texts import MAX_CHARACTERS, text_ends
from shared_router.serving.features import query_features
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.tokens import Tokens
from shared_router.testing import FixedScorer
from tests.langchain.fakes import FakeChat
from tests.llamaindex.fakes import FakeLLM

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router.records import RoutingDecision

N = 100_000
"""In quadratic time a text of so many characters takes minutes."""
FAMILIES = {
    "answer and blanks": "x " * 400 + "\n\nanswer" + " " * N + "x",
    "a word, blanks, answer": "w" * N + " " * N + "answer" + " " * N + "x",
    "form feeds": "What? " + "x " * 400 + "\x0c" * N + "x",
    "vertical tabs": "What? " + "x\x0b" * N,
    "line separators": "What? x" + "\u2028" * N + "x",
    "hashes": "#" * N + "\n" + "# \n" * N,
    "labels": "question \n" * N,
    "labels without ends": "question" + "\n" * N + "x",
    "blank lines": "\n \t" * N + "x",
    "contexts": "question: " + "context\n" * N,
    "state prompts": "Current state:\n" + "\n\nCurrent message:\n" * N + "x",
    "turns that never end": "<current_conversation>" + "\t<user>\n" * N,
    "messages that never end": "<current_conversation>\t<user>\n"
    + "\t\t<message>" * N
    + "\t</user>\n",
    "noise": " " * N + "Observation",
    "negations": "n'" * N + "not" * N,
    "numbers": "1." * N,
}


@pytest.mark.parametrize("text", FAMILIES.values(), ids=FAMILIES)
def test_whatever_is_read_of_a_message_is_read_in_linear_time(text: str) -> None:
    from llama_index.core.llms import ChatMessage

    assert final_question(text)
    assert user_text(ChatMessage(role="user", content=text))
    assert len(query_features(text)) == len(query_features(""))
    is_tool_noise(text)


def test_of_a_long_text_the_head_and_the_tail_are_read() -> None:
    half = "w" * (MAX_CHARACTERS // 2)
    assert query_features(half + "{}" * N + half) == query_features(half + half)
    shorter = "x" * MAX_CHARACTERS
    assert text_ends(shorter) == shorter


@dataclasses.dataclass(frozen=True)
class NotingTokens(Tokens):
    """Notes in which threads it is asked."""

    threads: set[str] = dataclasses.field(default_factory=set)

    def exceeds(self, text: str) -> bool:
        self.threads.add(threading.current_thread().name)
        return super().exceeds(text)

    def ids(self, text: str) -> list[int]:
        self.threads.add(threading.current_thread().name)
        return super().ids(text)


def with_tokens(router: Router, tokens: Tokens) -> Router:
    assert isinstance(router.scorer, GraphScorer)
    return dataclasses.replace(router, scorer=dataclasses.replace(router.scorer, tokens=tokens))


def pair(router: Router, **options: Any) -> tuple[HybridChatModel, HybridLLM]:
    given = {"router": router, "same_models": True, **options}
    return (
        HybridChatModel(small=FakeChat(name="small"), large=FakeChat(name="large"), **given),
        HybridLLM(small=FakeLLM(name="small"), large=FakeLLM(name="large"), **given),
    )


async def asked_async(model: HybridChatModel, llm: HybridLLM, text: str) -> None:
    """Ask in every asynchronous way."""
    await model.aroute(text)
    await model.ainvoke(text)
    assert [chunk async for chunk in model.astream(text)]
    await llm.aroute(text)
    await llm.acomplete(text)
    assert [chunk async for chunk in await llm.astream_complete(text)]


def asked(model: HybridChatModel, llm: HybridLLM, text: str) -> None:
    """Ask in every synchronous way."""
    model.route(text)
    model.invoke(text)
    assert list(model.stream(text))
    llm.route(text)
    llm.complete(text)
    assert list(llm.stream_complete(text))


@pytest.mark.filterwarnings("ignore::shared_router.asking.questions.GuessedQueryWarning")
async def test_a_long_message_is_read_off_the_event_loop(calibrated: Router) -> None:
    scorer = calibrated.scorer
    assert isinstance(scorer, GraphScorer)
    tokens = NotingTokens(scorer.tokens.serialized, scorer.tokens.max_tokens)
    model, llm = pair(with_tokens(calibrated, tokens))
    tokens.threads.clear()  # of construction, which compares this machine's arithmetic
    await asked_async(model, llm, "many words " * 5000 + "\n\nWhich city is it?")
    assert tokens.threads
    assert threading.main_thread().name not in tokens.threads


def panicking(router: Router) -> Router:
    """Take a tokenizer whose pattern is given up on, which tokenizers panics about."""
    scorer = router.scorer
    assert isinstance(scorer, GraphScorer)
    described = json.loads(scorer.tokens.serialized)
    pattern = {"Regex": "(a+)+$"}
    described["pre_tokenizer"] = {
        "type": "Split",
        "pattern": pattern,
        "behavior": "Isolated",
        "invert": False,
    }
    return with_tokens(router, Tokens(json.dumps(described), scorer.tokens.max_tokens))


PANICS = "a" * 28 + "!"


@pytest.mark.parametrize("message", [PANICS, f"{'many words ' * 500}\n\n{PANICS}"])
@pytest.mark.parametrize("ways", [asked, asked_async])
async def test_a_tokenizer_that_panics_sends_the_call_to_the_reference(
    ways: Callable[..., Any], message: str, calibrated: Router, capfd: pytest.CaptureFixture[str]
) -> None:
    decisions: list[RoutingDecision] = []
    fronts = pair(panicking(calibrated), on_decision=[decisions.append])
    done = ways(*fronts, message)
    if done is not None:
        await done
    assert {(each.candidate, each.reason, each.error) for each in decisions} == {
        ("large", "router_error", "PanicError")
    }
    assert len(decisions) == 4  # previews are not told
    capfd.readouterr()  # Rust tells standard error


class Panic(BaseException):
    """As Rust's are raised."""


Panic.__module__ = "pyo3_runtime"


def panics(text: str) -> float:
    raise Panic(text)


async def test_a_scorer_of_ones_own_that_panics_does_so_too() -> None:
    decisions: list[RoutingDecision] = []
    router = Router(candidates=("small", "large"), scorer=FixedScorer(panics))
    fronts = pair(router, on_decision=[decisions.append])
    asked(*fronts, "why?")
    await asked_async(*fronts, "why?")
    assert {each.error for each in decisions} == {"PanicError"}
    assert len(decisions) == 8


def test_a_log_goes_on_behind_a_query_that_panics(calibrated: Router, tmp_path: Any) -> None:
    from shared_router.bulk.score import score_file

    source = tmp_path / "log.txt"
    source.write_text(f"one\n{PANICS}\ntwo\n")
    report = score_file(panicking(calibrated), source, tmp_path / "out.jsonl")
    assert (report.queries, report.failed) == (3, 1)
