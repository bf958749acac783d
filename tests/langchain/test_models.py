"""What `collect` learns of LangChain's models beside an answer: log-probabilities, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI

from langchain_hybrid.models import asking
from shared_router.data.answers import Sampling
from shared_router.errors import ConfigurationError
from shared_router.records import AnswerSettings
from tests.langchain.fakes import FakeChat
from tests.langchain.looks import RIGHT, RefusedError, Telling, openai_like

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

REFUSED = RefusedError("Unsupported parameter: 'logprobs'.", 400)
TOLD = (-0.5, -0.25)


class Keyword(FakeChat):
    """Takes log-probabilities as a keyword alone."""

    def _reply(self, messages: Any, stop: Any, kwargs: dict[str, Any]) -> Any:
        message = super()._reply(messages, stop, kwargs)
        tokens = [{"logprob": each} for each in TOLD if kwargs.get("logprobs")]
        message.response_metadata["logprobs"] = {"content": tokens}
        return message


def asked(model: FakeChat) -> list[bool | None]:
    """Say what each request said of log-probabilities."""
    return [request.get("logprobs") for request in model.requests]


@pytest.fixture
def server() -> Iterator[Any]:
    with openai_like() as running:
        yield running


@pytest.fixture
async def connection() -> AsyncIterator[Any]:
    """Return a connection that is closed with the test: what the client makes it never closes."""
    async with openai.DefaultAsyncHttpxClient(timeout=60) as one:
        yield one


def client(server: Any, connection: Any, **how: Any) -> ChatOpenAI:
    url: Any = f"http://127.0.0.1:{server.server_address[1]}/v1"
    shared: Any = {"api_key": "none", "max_retries": 0, "http_async_client": connection}
    return ChatOpenAI(model="small", base_url=url, **shared, **how)


# -- over HTTP ------------------------------------------------------------------------------------


async def test_a_client_of_openais_gives_them(server: Any, connection: Any) -> None:
    ask = asking(client(server, connection, max_completion_tokens=30), Sampling(temperature=0.5))
    answer = await ask("q", 0)
    assert (answer.text, answer.logprobs) == (RIGHT, TOLD)
    assert answer.settings == AnswerSettings(
        model="small", temperature=0.5, max_tokens=30, logprobs=True
    )
    assert [(each["logprobs"], each["temperature"]) for each in server.asked] == [(True, 0.5)]


@pytest.mark.parametrize("logprobs", ["auto", False])
async def test_a_refused_request_is_sent_once_more_without(logprobs: Any, connection: Any) -> None:
    with openai_like(refuses="'logprobs' is not supported with this model.") as server:
        ask = asking(client(server, connection), Sampling(logprobs=logprobs))
        for sample in range(3):
            answer = await ask("q", sample)
            assert (answer.text, answer.logprobs) == (RIGHT, None)
            assert answer.settings == AnswerSettings(model="small")
    found = ["logprobs" in each for each in server.asked]
    assert found == ([True] if logprobs else []) + [False] * 3


async def test_where_they_must_be_a_refusal_is_an_error(connection: Any) -> None:
    with openai_like(refuses="'logprobs' is not supported with this model.") as server:
        with pytest.raises(openai.BadRequestError, match="not supported"):
            await asking(client(server, connection), Sampling(logprobs=True))("q", 0)
        assert len(server.asked) == 1


# -- other models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["", "retried", "bound", "fallen"])
async def test_they_are_asked_for_inside_wrappers(wrap: str) -> None:
    inner = Telling(model="small", answer=RIGHT)
    wrapped = {
        "retried": inner.with_retry(),
        "bound": inner.bind(temperature=0.25),
        "fallen": inner.with_fallbacks([FakeChat()]),
    }
    for logprobs in ("auto", True):
        model: Any = wrapped.get(wrap, inner)
        answer = await asking(model, Sampling(logprobs=logprobs))("q", 0)  # type: ignore[arg-type]
        assert answer.logprobs == TOLD
        assert answer.settings is not None
        assert answer.settings.temperature == (0.25 if wrap == "bound" else None)


async def test_what_a_user_has_said_of_them_stands_unless_they_must_be() -> None:
    for said in ({"logprobs": False}, {"logprobs": True}):
        model, bound = Telling(model="small", **said), Telling()  # type: ignore[arg-type]
        await asking(model)("q", 0)
        await asking(bound.bind(**said))("q", 0)
        assert asked(model) == asked(bound) == [said["logprobs"]]
        for each in (model, bound.bind(**said)):
            await asking(each, Sampling(logprobs=True))("q", 0)
        assert asked(model)[1:] == asked(bound)[1:] == [True]


async def test_a_model_without_the_field_is_asked_only_where_it_must() -> None:
    model = Keyword(model="small")
    assert (await asking(model)("q", 0)).logprobs is None
    assert (await asking(model, Sampling(logprobs=True))("q", 0)).logprobs == TOLD
    assert asked(model) == [None, True]


async def test_a_refusal_is_remembered_for_the_run() -> None:
    model = Telling(model="small", refuses=REFUSED)
    ask = asking(model)
    assert [(await ask("q", sample)).logprobs for sample in range(2)] == [None, None]
    assert asked(model) == [True, None, None]


async def test_another_error_is_collects_to_handle() -> None:
    model = Telling(model="small", refuses=RefusedError("Rate limit.", 429))
    with pytest.raises(RefusedError):
        await asking(model)("q", 0)
    assert asked(model) == [True]


@pytest.mark.parametrize("model", [FakeListLLM(responses=["4"]), RunnableLambda(str)])
async def test_of_what_is_no_chat_model_nothing_is_known(model: Any) -> None:
    answer = await asking(model)("4", 0)
    assert (answer.text, answer.logprobs, answer.settings) == ("4", None, None)
    with pytest.raises(ConfigurationError, match="asked of chat models; here is a"):
        asking(model, Sampling(logprobs=True))
