"""Log-probabilities as OpenAI's clients tell them: read, taken off, asked for, refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
)
from llama_index.llms.openai_like import OpenAILike

from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.logprobs import logprobs_of, may_refuse, without_logprobs
from shared_router.testing import FixedAnswerScorer, fixed_router
from tests.llamaindex.fakes import FakeLLM
from tests.llamaindex.openai_server import (
    ANSWER,
    INVALID,
    LIKELIEST,
    REFUSAL,
    SAMPLED,
    serving,
)
from tests.llamaindex.operations import ALL, STREAMS, messages, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_router.records import CallRecord
    from shared_router.serving.answers import Answered
    from tests.llamaindex.openai_server import Server

ANSWERED = [name for name in ALL if "and_call" not in name and name not in STREAMS]
WITHOUT_TOOLS = [name for name in ANSWERED if "tools" not in name]
WORDS = len(ANSWER.split())


def chatted(**told: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage("x", role="assistant"), **told)


def token(logprob: Any) -> dict[str, Any]:
    return {"token": "x", "logprob": logprob, "top_logprobs": [{"token": "y", "logprob": -0.5}]}


# -- read, and taken off --------------------------------------------------------------------------


def test_those_of_the_tokens_that_were_said_come_before_the_likeliest() -> None:
    raw = {"choices": [{"logprobs": {"content": [token(-1.0), token(-2)]}}]}
    likeliest = [[LogProb(token="y", logprob=-0.5)], [LogProb(token="y", logprob=-0.5)]]
    assert logprobs_of(chatted(raw=raw, logprobs=likeliest)) == (-1.0, -2.0)
    assert logprobs_of(chatted(logprobs=likeliest)) == (-0.5, -0.5)
    completion = {"choices": [SimpleNamespace(logprobs={"token_logprobs": [-1.0, -3]})]}
    assert logprobs_of(CompletionResponse(text="x", raw=completion)) == (-1.0, -3.0)


@pytest.mark.parametrize(
    "answer",
    [
        chatted(),
        chatted(logprobs=[]),
        chatted(logprobs=[[]]),
        chatted(raw=7),
        chatted(raw={"choices": 7}),
        chatted(raw={"choices": [None]}),
        chatted(raw={"choices": [{"logprobs": [1, 2]}]}),
        chatted(raw={"choices": [{"logprobs": {"content": [token(None)]}}]}),
        chatted(raw={"choices": [{"logprobs": {"token_logprobs": [None, -1.0]}}]}),
        "a text",
        None,
    ],
)
def test_what_tells_none_is_read_as_none(answer: Any) -> None:
    assert logprobs_of(answer) is None


@pytest.mark.parametrize("raw", [7, None, {}, {"choices": []}, {"choices": 7}, {"choices": [7]}])
def test_they_are_taken_off_whatever_the_provider_sent(raw: Any) -> None:
    answer = chatted(raw=raw, logprobs=[[LogProb()]])
    assert (without_logprobs(answer).logprobs, without_logprobs(answer).raw) == (None, raw)
    assert answer.logprobs is not None


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (TypeError("unexpected keyword argument 'logprobs'"), True),
        (ValueError("You requested Logprobs, which are off"), True),
        (ValueError("no"), False),
        (ConnectionError("down"), False),
        (RuntimeError("x" * 10_000 + "logprobs"), False),
    ],
)
def test_which_errors_may_be_refusals(error: Exception, found: bool) -> None:
    assert may_refuse(error) is found


# -- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@dataclass(frozen=True)
class Seen(FixedAnswerScorer):
    """Keeps what it is given to score, and finds all of it good."""

    value: float = 0.05
    needs_logprobs: bool = True
    seen: list[Answered] = field(default_factory=list)

    def score(self, answers: Any) -> Any:
        self.seen.extend(answers)
        return super().score(answers)


def client(server: Server, connections: dict[str, Any], **how: Any) -> OpenAILike:
    given = {"is_chat_model": True, "is_function_calling_model": True, **how}
    fixed = {"model": "small", "api_base": server.url, "api_key": "none", "max_retries": 0}
    return OpenAILike(**fixed, **connections, **given)


def looking(small: Any) -> tuple[HybridLLM, list[CallRecord], list[Answered]]:
    heard: list[CallRecord] = []
    scorer = Seen()
    router = fixed_router(0.0, answers=scorer)
    pair = {"small": small, "large": FakeLLM(name="large")}
    llm = HybridLLM(**pair, router=router, same_models=True, on_call=[heard.append])
    return llm, heard, scorer.seen


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, {}) for name in ANSWERED]
    + [(name, {"is_function_calling_model": False}) for name in WITHOUT_TOOLS if "stru" not in name]
    + [
        (name, {"is_chat_model": False, "is_function_calling_model": False})
        for name in WITHOUT_TOOLS
        if "stru" not in name
    ],
)
async def test_a_client_of_openais_is_asked_and_heard(
    name: str, how: dict[str, Any], server: Server, connections: dict[str, Any]
) -> None:
    llm, heard, seen = looking(client(server, connections, **how))
    (answer,) = await run(llm, name)
    (given,) = seen
    assert (given.logprobs, heard[0].accepted) == ((SAMPLED,) * WORDS, True)
    assert heard[0].usage is not None
    assert heard[0].usage.output_tokens == 4
    assert len(server.asked) == 1
    if hasattr(answer, "raw"):
        assert (answer.logprobs, answer.raw.choices[0].logprobs) == (None, None)
        assert answer.raw.usage.completion_tokens == 4


@pytest.mark.parametrize("refusal", [REFUSAL, INVALID])
@pytest.mark.parametrize("name", ANSWERED)
async def test_one_that_refuses_is_asked_once_without(
    name: str, refusal: dict[str, Any], server: Server, connections: dict[str, Any]
) -> None:
    server.refuses = refusal
    llm, heard, _ = looking(client(server, connections))
    for _ in range(2):
        await run(llm, name)
    await run(llm.model_copy(update={"threshold": 0.0}), name)
    asked = ["logprobs" in each for each in server.asked]
    assert asked == [True, False, False, False]
    assert [r.attempts[0].look_error for r in heard] == ["no_logprobs"] * 3


@pytest.mark.parametrize("name", ["chat", "achat"])
async def test_what_the_caller_asked_for_stays(
    name: str, server: Server, connections: dict[str, Any]
) -> None:
    by_field = client(server, connections, logprobs=True, top_logprobs=3)
    by_extra = client(server, connections, additional_kwargs={"logprobs": True, "top_logprobs": 3})
    by_keyword = {"logprobs": True, "top_logprobs": 3}
    plain = client(server, connections)
    for small, keywords in ((by_field, {}), (by_extra, {}), (plain, by_keyword)):
        llm, _, seen = looking(small)
        (answer,) = await run(llm, name, **keywords)
        assert [tokens[0].logprob for tokens in answer.logprobs] == [LIKELIEST] * WORDS
        assert answer.raw.choices[0].logprobs is not None
        assert seen[0].logprobs == (SAMPLED,) * WORDS
    assert [each["top_logprobs"] for each in server.asked] == [3, 3, 3]


def test_a_caller_who_wants_none_gets_none(server: Server, connections: dict[str, Any]) -> None:
    llm, heard, _ = looking(client(server, connections, logprobs=False))
    llm.chat(messages())
    assert "logprobs" not in server.asked[0]
    assert heard[0].attempts[0].look_error == "no_logprobs"


def test_many_threads_remember_it_together(server: Server, connections: dict[str, Any]) -> None:
    server.refuses = REFUSAL
    llm, heard, _ = looking(client(server, connections))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: llm.chat(messages()), range(2)))
    in_vain = sum("logprobs" in each for each in server.asked)
    assert len(server.asked) == 2 + in_vain
    llm.chat(messages())
    assert "logprobs" not in server.asked[-1]
    assert [r.attempts[0].look_error for r in heard] == ["no_logprobs"] * 3
    llm.chat(messages())  # three answers in vain were enough: the reference is asked at once
    assert (heard[-1].why, len(server.asked)) == ("no_logprobs", 3 + in_vain)


async def test_the_model_itself_stays_as_it_was(
    server: Server, connections: dict[str, Any]
) -> None:
    small = client(server, connections)
    llm, *_ = looking(small)
    for _ in range(2):
        llm.chat(messages())
        await llm.achat(messages())
    assert (small.logprobs, small.top_logprobs) == (None, 0)
    assert llm.chat(messages(), route="small").logprobs is None
    assert ["logprobs" in each for each in server.asked] == [True] * 4 + [False]
